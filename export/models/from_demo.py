"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

from onnxplain.contract import Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.demo import model as demo
from onnxplain.demo.scenes import DIGITS, SIZE

from .checkpoints import load_weights
from .from_timm import Tokens
from .records import LoadedModel, Request


def load(name: str, request: Request) -> LoadedModel:
    """Load the demo model, without its head if features are needed. There is one, whatever the name."""
    weights = Path(str(demo.WEIGHTS))
    model = demo.architecture()
    load_weights(model, weights)
    if request.needs_features:
        model.reset_classifier(0)
    return LoadedModel(
        model=model,
        classes=0 if request.needs_features else len(DIGITS),
        preprocessing=Preprocessing(size=(SIZE, SIZE), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=1.0),
        source=weights.name,
        sha256=file_digest(weights),
        labels=None if request.needs_features else DIGITS,
        activation="sigmoid",
        tokens=Tokens(model),
        prefix=model.num_prefix_tokens,
    )
