"""The model that comes with the package."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from onnxplain import demo
from onnxplain.contract import Preprocessing
from onnxplain.demo.model import architecture
from onnxplain.demo.scenes import DIGITS, SIZE

from .checkpoints import State, load_state, load_weights
from .from_timm import Tokens
from .records import LoadedModel, Request


def load(name: str, request: Request) -> LoadedModel:
    """Load the demo model, without its head if features are needed. There is one, whatever the name."""
    model = architecture()
    if request.checkpoint is None:
        load_state(model, _weights_in_artifact(), demo.ARTIFACT)
    else:
        load_weights(model, request.checkpoint)
    digest = _digest(model.state_dict())
    if request.needs_features:
        model.reset_classifier(0)
    return LoadedModel(
        model=model,
        classes=0 if request.needs_features else len(DIGITS),
        preprocessing=Preprocessing(size=(SIZE, SIZE), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=1.0),
        source="demo",
        sha256=digest,
        labels=None if request.needs_features else DIGITS,
        activation="sigmoid",
        tokens=Tokens(model),
        prefix=model.num_prefix_tokens,
    )


def _weights_in_artifact() -> State:
    """By name; the artifact's initializers are called so, with `.T` where they are stored transposed."""
    stored = {tensor.name: tensor for tensor in onnx.load(demo.ARTIFACT).graph.initializer}
    weights: State = {}
    for name in architecture().state_dict():
        transposed = name not in stored
        values = numpy_helper.to_array(stored[f"{name}.T" if transposed else name])
        weights[name] = torch.from_numpy(np.array(values.T if transposed else values, order="C"))
    return weights


def _digest(weights: State) -> str:
    """The SHA-256 digest of the weights, in whatever file they are."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()
