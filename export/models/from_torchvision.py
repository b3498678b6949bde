"""Models of torchvision."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn
from torchvision.models import VisionTransformer, get_model, get_model_weights, list_models

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line
from onnxplain.contract.names import or_rather

from .checkpoints import State, load_state, read_state, without_prefixes
from .internals.of_torchvision import resize_positions
from .records import LoadedModel, Request
from .seeding import seeded
from .sizes import crop_pct, pair


def load(name: str, request: Request) -> LoadedModel:
    """Load torchvision's model ``name``, or ``name.WEIGHTS`` with one of its sets of published weights.

    Raises OnnxplainError as ``load_model`` does.
    """
    architecture, _, tag = name.partition(".")
    if architecture not in list_models(torchvision.models):
        vits = [model for model in list_models(torchvision.models) if model.startswith("vit")]
        raise OnnxplainError(
            f"torchvision has no model {architecture!r}; its Vision Transformers are {', '.join(vits)}"
            + or_rather(architecture, vits)
        )
    published = get_model_weights(architecture)
    if tag and tag not in published.__members__:
        raise OnnxplainError(
            f"torchvision has no weights {tag!r} of {architecture}; it has {', '.join(published.__members__)}"
        )
    weights: Any = published[tag] if tag else published.DEFAULT
    transform, labels = weights.transforms(), tuple(weights.meta["categories"])
    crop, resized = pair(transform.crop_size[0]), pair(transform.resize_size[0])
    height, width = request.image_size or crop
    if height != width:
        raise OnnxplainError(f"torchvision's models take square images, got `image_size` {height} x {width}")
    if request.wants_published and request.num_classes not in (None, len(labels)):
        raise OnnxplainError(
            f"the published weights of {name} have a head of {len(labels)} classes, not of {request.num_classes}; give "
            "weights that have one as `checkpoint`, with `num_classes`"
        )
    classes = request.num_classes or len(labels)
    model: Any = _create(architecture, classes, height)
    path = request.checkpoint
    if not request.random_init:
        state = _download(weights, name) if path is None else without_prefixes(read_state(path), model)
        if isinstance(model, VisionTransformer):
            state = resize_positions(state, height, model.patch_size)
        load_state(model, state, path or name)
    gives_features = request.needs_features and isinstance(model, VisionTransformer)
    if gives_features:
        model.heads = nn.Identity()
    return LoadedModel(
        model=model,
        classes=0 if gives_features else classes,
        preprocessing=Preprocessing(
            size=(height, width),
            mean=tuple(transform.mean),
            std=tuple(transform.std),
            crop_pct=crop_pct(crop, resized),
            interpolation=transform.interpolation.value,
        ),
        source=request.source(f"torchvision {weights}"),
        sha256=None if path is None else file_digest(path),
        labels=labels if classes == len(labels) else None,
    )


def _create(architecture: str, classes: int, size: int) -> Any:
    options = {"image_size": size} if architecture.startswith("vit_") else {}
    try:
        with seeded():
            model = get_model(architecture, weights=None, num_classes=classes, **options).eval()
            if isinstance(model, VisionTransformer):  # torchvision begins with a head of zeros, which explains nothing
                nn.init.trunc_normal_(model.heads.head.weight, std=0.02)
            return model
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise OnnxplainError(f"torchvision cannot build {architecture} at {size} pixels: {one_line(error)}") from error


def _download(weights: Any, name: str) -> State:
    try:
        state: State = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return state
    except Exception as error:  # what urllib raises without network, and torch for a file of another checksum
        raise OnnxplainError(
            f"cannot download the weights of {name} ({type(error).__name__}: {one_line(error)}); "
            "give `checkpoint` with weights you have, or `random_init=True` to go without"
        ) from error
