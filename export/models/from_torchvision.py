"""Models of torchvision."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torchvision
from torch import nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line
from onnxplain.contract.names import or_rather

from .checkpoints import State, load_state, read_state, without_prefixes
from .sources import Loaded, Request, crop_pct, same_random_numbers


def load(name: str, request: Request) -> Loaded:
    """Build torchvision's model ``name``, or ``name.WEIGHTS`` with one of its sets of published weights."""
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
    height, width = request.image_size or (transform.crop_size[0],) * 2
    if height != width:
        raise OnnxplainError(f"torchvision's models take square images, got `image_size` {height} x {width}")
    downloads = request.checkpoint is None and not request.random_init
    if downloads and request.num_classes not in (None, len(labels)):
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
            with suppress(KeyError, ValueError, RuntimeError):  # for other keys or shapes, of which load_state tells
                state = interpolate_embeddings(height, model.patch_size, state)
        load_state(model, state, path or name)
    features = request.features and isinstance(model, VisionTransformer)
    if features:
        model.heads = nn.Identity()
    return Loaded(
        model=model,
        classes=0 if features else classes,
        preprocessing=Preprocessing(
            size=(height, width),
            mean=tuple(transform.mean),
            std=tuple(transform.std),
            crop_pct=crop_pct((transform.crop_size[0],) * 2, (transform.resize_size[0],) * 2),
            interpolation=transform.interpolation.value,
        ),
        source="random" if request.random_init else f"torchvision {weights}" if path is None else path.name,
        sha256=None if path is None else file_digest(path),
        labels=labels if classes == len(labels) else None,
    )


def _create(architecture: str, classes: int, size: int) -> Any:
    options = {"image_size": size} if architecture.startswith("vit_") else {}
    try:
        with same_random_numbers():
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
