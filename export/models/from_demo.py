"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path

from onnxplain.contract import Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.demo import model as demo
from onnxplain.demo.scenes import SIZE

from .checkpoints import load_weights
from .sources import Loaded, Method

DEMO_LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def load(features: bool) -> Loaded:
    """The model, or without its head."""
    weights = Path(str(demo.WEIGHTS))
    model = demo.architecture()
    load_weights(model, weights)
    if features:
        model.reset_classifier(0)
    return Loaded(
        model=model,
        classes=0 if features else len(DEMO_LABELS),
        preprocessing=Preprocessing(size=(SIZE, SIZE), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=1.0),
        source=weights.name,
        sha256=file_digest(weights),
        labels=None if features else DEMO_LABELS,
        activation="sigmoid",
        tokens=Method(model, "forward_features"),
        prefix=model.num_prefix_tokens,
    )
