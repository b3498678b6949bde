"""Models of timm, and weights in the formats that timm reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from timm.data import resolve_model_data_config
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from onnxplain.catalog import IMAGENET
from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line
from onnxplain.contract.names import did_you_mean, nearest

from .checkpoints import TRANSFORMERS_WEIGHTS, State, load_state, read_state, without_prefixes
from .hub import Progress, Repository
from .internals.of_timm import create_with_state, imagenet_labels
from .records import LoadedModel, Request
from .seeding import seeded
from .sizes import check_patches, pair

HEADS = ("head.weight", "head.bias", "head_dist.")
"""How the keys of a timm transformer's own head begin."""


class Tokens(nn.Module):
    """A model of timm that gives the last layer's normalised tokens: [batch, 3, H, W] to [batch, tokens, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """The tokens."""
        tokens: Tensor = self.model.forward_features(pixels)  # type: ignore[operator]  # a method, not a module
        return tokens


def load(name: str, request: Request) -> LoadedModel:
    """Load timm's model ``name``, with its tag if it has one; raises OnnxplainError as ``load_model`` does."""
    if not timm.is_model(name):
        close = nearest(name, timm.list_models())
        hint = did_you_mean(close) if close else "timm.list_models('*vit*') lists those it has"
        raise OnnxplainError(f"timm has no model {name!r}; {hint}")
    row, published = request.row, _published(name)
    file = request.checkpoint
    if request.wants_published:
        _require_head(name, published, request.num_classes)
        file = _download(published, request.progress)
    size = request.image_size or (None if row.image_size is None else pair(row.image_size))
    options: dict[str, Any] = {} if size is None else {"img_size": size}
    gives_embedding = request.num_classes is None and _is_embedding(name, published)
    unused_keys = row.unused_keys
    if request.needs_features and not gives_embedding:
        options["num_classes"] = 0
        unused_keys += HEADS
    elif request.num_classes is not None:
        options["num_classes"] = request.num_classes
    state = None
    if request.checkpoint is not None:
        state = _state(request.checkpoint, unused_keys)
        if "num_classes" not in options and getattr(published, "num_classes", IMAGENET) == 0:
            options |= _head_of(state)
    model = _create(name, request.wants_published, options, file)
    if state is not None and request.checkpoint is not None:
        load_state(model, state, request.checkpoint)
    settings = resolve_model_data_config(model)
    preprocessing = Preprocessing(
        size=size or tuple(settings["input_size"][1:]),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        crop_pct=row.crop_pct or settings["crop_pct"],
        crop_mode=settings["crop_mode"],
        interpolation=settings["interpolation"],
    )
    check_patches(name, preprocessing.size, getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1)))
    classes = 0 if gives_embedding else model.num_classes
    return LoadedModel(
        model=model,
        classes=classes,
        preprocessing=preprocessing,
        source=request.source(f"timm {name}"),
        sha256=None if file is None else file_digest(file),
        labels=imagenet_labels(model) if classes else None,
        tokens=Tokens(model),
        prefix=getattr(model, "num_prefix_tokens", 0),
        class_token=getattr(model, "cls_token", None) is not None,
    )


def _published(name: str) -> Any:
    """What timm knows of the published weights, None where it has none."""
    try:
        return get_pretrained_cfg(name)
    except RuntimeError as error:  # for a tag that timm does not know
        raise OnnxplainError(f"timm cannot build {name}: {error}") from error


def _require_head(name: str, published: Any, num_classes: int | None) -> None:
    """timm would fill a head of another size with random numbers, whose explanation says nothing."""
    classes = published.num_classes if published is not None else None
    if classes is not None and num_classes not in (None, classes):
        head = f"a head of {classes} classes, not of {num_classes}" if classes else "no classification head"
        raise OnnxplainError(
            f"the published weights of {name} have {head}; give weights that have one as `checkpoint`, with "
            "`num_classes`, or put one on them with `head`"
        )


def _is_embedding(name: str, published: Any) -> bool:
    """Whether what timm calls the head is CLIP's projection, whose outputs are no classes."""
    return "_clip_" in name and "_ft_" not in (getattr(published, "tag", None) or "")


def _state(path: Path, unused_keys: tuple[str, ...]) -> State:
    """The weights in a checkpoint, without those of other parts."""
    state = without_prefixes(read_state(path), nn.Module())
    return {key: tensor for key, tensor in state.items() if not key.startswith(unused_keys)}


def _head_of(state: State) -> dict[str, Any]:
    """The options that give a model the head in a checkpoint.

    A model that is published without a head may have been fine-tuned with one.
    """
    options: dict[str, Any] = {"num_classes": len(state["head.weight"])} if "head.weight" in state else {}
    if options and "fc_norm.weight" in state and "norm.weight" not in state:
        options["global_pool"] = "avg"
    return options


def _download(published: Any, progress: Progress) -> Path | None:
    """The published weights, None where there are none on the hub."""
    repository = getattr(published, "hf_hub_id", None)
    return None if repository is None else Repository(repository, progress).first(TRANSFORMERS_WEIGHTS)


def _create(name: str, pretrained: bool, options: dict[str, Any], file: Path | None) -> Any:
    state = read_state(file) if pretrained and file is not None else None
    try:
        with seeded():
            return create_with_state(name, state, pretrained, options)
    except OSError as error:  # for weights that are not on the hub
        raise OnnxplainError(
            f"cannot download the weights of {name} ({type(error).__name__}); "
            "give `checkpoint` with weights you have, or `random_init=True` to go without"
        ) from error
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        raise OnnxplainError(f"timm cannot build {name} with {options}: {one_line(error)}") from error
