"""Models of timm, and weights in the formats that timm reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_model_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import one_line
from onnxplain.contract.names import did_you_mean, nearest

from .checkpoints import OF_TRANSFORMERS, State, load_state, read_state, without_prefixes
from .hub import Report, Repository
from .sources import Loaded, Method, Request, check_patches, same_random_numbers

HEADS = ("head.weight", "head.bias", "head_dist.")
"""Keys of a timm transformer's own head."""


def load(name: str, request: Request) -> Loaded:
    """Build timm's model ``name``, with its tag if it has one."""
    if not timm.is_model(name):
        close = nearest(name, timm.list_models())
        hint = did_you_mean(close) if close else "timm.list_models('*vit*') lists those it has"
        raise OnnxplainError(f"timm has no model {name!r}; {hint}")
    published = request.checkpoint is None and not request.random_init
    config = _published(name)
    file = request.checkpoint
    if published:
        _require_head(name, config, request.num_classes)
        file = _download(config, request.report)
    embeds = request.num_classes is None and _is_embedding(name, config)
    options: dict[str, Any] = {} if request.image_size is None else {"img_size": request.image_size}
    drop = request.drop
    if request.features and not embeds:
        options["num_classes"] = 0
        drop += HEADS
    elif request.num_classes is not None:
        options["num_classes"] = request.num_classes
    state = None
    if request.checkpoint is not None:
        state = _state(request.checkpoint, drop)
        if not options.keys() & {"num_classes"} and getattr(config, "num_classes", 1000) == 0:
            options |= _head_of(state)
    model = _create(name, published, options, file)
    if state is not None and request.checkpoint is not None:
        load_state(model, state, request.checkpoint)
    settings = resolve_model_data_config(model)
    preprocessing = Preprocessing(
        size=request.image_size or tuple(settings["input_size"][1:]),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        crop_pct=settings["crop_pct"],
        crop_mode=settings["crop_mode"],
        interpolation=settings["interpolation"],
    )
    check_patches(name, preprocessing.size, getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1)))
    classes = 0 if embeds else model.num_classes
    return Loaded(
        model=model,
        classes=classes,
        preprocessing=preprocessing,
        source="random"
        if request.random_init
        else f"timm {name}"
        if request.checkpoint is None
        else request.checkpoint.name,
        sha256=None if file is None else file_digest(file),
        labels=_labels(model) if classes else None,
        tokens=Method(model, "forward_features"),
        prefix=getattr(model, "num_prefix_tokens", 0),
        class_token=getattr(model, "cls_token", None) is not None,
    )


def _published(name: str) -> Any:
    try:
        return get_pretrained_cfg(name)
    except RuntimeError as error:  # for a tag that timm does not know
        raise OnnxplainError(f"timm cannot build {name}: {error}") from error


def _require_head(name: str, config: Any, num_classes: int | None) -> None:
    """timm would fill a head of another size with random numbers, whose explanation says nothing."""
    published = config.num_classes if config is not None else None
    if published is not None and num_classes not in (None, published):
        head = f"a head of {published} classes, not of {num_classes}" if published else "no classification head"
        raise OnnxplainError(
            f"the published weights of {name} have {head}; give weights that have one as `checkpoint`, with "
            "`num_classes`, or put one on them with `head`"
        )


def _is_embedding(name: str, config: Any) -> bool:
    """Whether what timm calls the head is CLIP's projection, whose outputs are no classes."""
    return "_clip_" in name and "_ft_" not in (getattr(config, "tag", None) or "")


def _state(path: Path, drop: tuple[str, ...]) -> State:
    state = without_prefixes(read_state(path), nn.Module())
    return {key: tensor for key, tensor in state.items() if not key.startswith(drop)}


def _head_of(state: State) -> dict[str, Any]:
    """A model published without a head may have been fine-tuned: the options for the head in its checkpoint."""
    options: dict[str, Any] = {"num_classes": len(state["head.weight"])} if "head.weight" in state else {}
    if options and "fc_norm.weight" in state and "norm.weight" not in state:
        options["global_pool"] = "avg"
    return options


def _download(config: Any, report: Report) -> Path | None:
    """The published weights, None where there are none on the hub."""
    repository = getattr(config, "hf_hub_id", None)
    return None if repository is None else Repository(repository, report).first(OF_TRANSFORMERS)


def _create(name: str, pretrained: bool, options: dict[str, Any], file: Path | None) -> Any:
    weights = None if not pretrained or file is None else {"state_dict": read_state(file)}
    try:
        with same_random_numbers():
            model = timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=weights, **options)
        vars(model)["pretrained_cfg"].pop("state_dict", None)  # a second copy of the weights
        return model
    except OSError as error:  # for weights that are not on the hub
        raise OnnxplainError(
            f"cannot download the weights of {name} ({type(error).__name__}); "
            "give `checkpoint` with weights you have, or `random_init=True` to go without"
        ) from error
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        raise OnnxplainError(f"timm cannot build {name} with {options}: {one_line(error)}") from error


def _labels(model: Any) -> tuple[str, ...] | None:
    """ImageNet's descriptions where the head is ImageNet's."""
    subset = infer_imagenet_subset(model) if model.pretrained_cfg.get("num_classes") == model.num_classes else None
    return None if subset is None else tuple(ImageNetInfo(subset).label_descriptions())
