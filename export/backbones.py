"""Supported models as rows of data, and how a name becomes a model with weights, labels and preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_model_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from ..demo import model as demo
from ..runtime import OnnxplainError, Preprocessing
from ..runtime.errors import one_line
from .checkpoints import load_weights, sha256

TIMM = "timm/"
SEED = 0
"""Of weights that are not loaded."""


@dataclass(frozen=True)
class Row:
    """One line of the table of models: where its architecture and published weights are found in timm."""

    name: str
    timm_name: str
    about: str


MODELS = {
    row.name: row
    for row in (
        Row("vit", "vit_base_patch16_224.augreg2_in21k_ft_in1k", "supervised ViT-B/16, ImageNet-1k"),
        Row("deit", "deit_tiny_patch16_224.fb_in1k", "DeiT-Ti/16, ImageNet-1k"),
    )
}
"""The models with a name of their own, beside ``demo`` and ``timm/<name>``."""

DEMO_LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Backbone:
    """A classifier and what the artifact has to say about it.

    model: maps float32 [batch, 3, H, W] to logits [batch, classes]; in evaluation mode.
    labels: one per class. activation: "softmax", or "sigmoid" where several classes can be true at once.
    source: where the weights come from. sha256: of the checkpoint file, None where there is none.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    activation: str
    source: str
    sha256: str | None


def load_backbone(
    name: str,
    checkpoint: str | Path | None = None,
    random_init: bool = False,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
) -> Backbone:
    """Build a model by name, with its published weights unless told otherwise.

    name: a key of MODELS, "demo", or "timm/<name>" for any of timm's Vision Transformers.
    checkpoint: weights to load in place of the published ones, .safetensors or .pth (read without running pickles).
    random_init: random weights, the same each time, for trying things out.
    num_classes, image_size (pixels, one number or (height, width)), labels: in place of the model's own.
    Raises OnnxplainError if the name is unknown, the weights cannot be had or do not fit, or the counts disagree.
    """
    if checkpoint is not None and random_init:
        raise OnnxplainError("--checkpoint and --random-init exclude each other; give one of them")
    if name == "demo":
        if any(option is not None for option in (checkpoint, num_classes, image_size)) or random_init:
            raise OnnxplainError("the demo model comes as it is; weights, classes and image size cannot be changed")
        return _demo(labels)
    timm_name = MODELS[name].timm_name if name in MODELS else name.removeprefix(TIMM)
    if name not in MODELS and not name.startswith(TIMM):
        raise OnnxplainError(
            f"unknown model {name!r}; known are {', '.join([*MODELS, 'demo'])} and timm/<name>, such as "
            "timm/vit_small_patch16_224"
        )
    if num_classes is not None and num_classes < 1:
        raise OnnxplainError(f"--num-classes must be at least 1, got {num_classes}")
    published = checkpoint is None and not random_init
    model = _create(timm_name, published, num_classes, image_size)
    if not getattr(model, "num_classes", 0):
        raise OnnxplainError(f"{name} has no classification head; give it one with --num-classes N and a --checkpoint")
    if checkpoint is not None:
        load_weights(model, Path(checkpoint))
    config = resolve_model_data_config(model)
    height_width = (image_size, image_size) if isinstance(image_size, int) else image_size
    preprocessing = Preprocessing(
        size=height_width or tuple(config["input_size"][1:]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        interpolation=config["interpolation"],
    )
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", (1, 1))
    if any(pixels % step for pixels, step in zip(preprocessing.size, patch, strict=True)):
        raise OnnxplainError(
            f"--image-size must be a multiple of {name}'s patches of {patch[0]} x {patch[1]} pixels, "
            f"got {preprocessing.size[0]} x {preprocessing.size[1]}"
        )
    return Backbone(
        name=name.removeprefix(TIMM),
        model=model.eval(),
        preprocessing=preprocessing,
        labels=_labels(model, labels),
        activation="softmax",
        source="random" if random_init else f"timm {timm_name}" if published else Path(checkpoint or "").name,
        sha256=sha256(Path(checkpoint)) if checkpoint is not None else None,
    )


def _create(name: str, pretrained: bool, num_classes: int | None, image_size: int | tuple[int, int] | None) -> Any:
    if not timm.is_model(name):
        raise OnnxplainError(f"timm has no model {name!r}; timm.list_models('*vit*') lists those it has")
    if pretrained:
        _require_published_head(name, num_classes)
    options: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    if num_classes is not None:
        options["num_classes"] = num_classes
    try:
        with torch.random.fork_rng():  # what timm fills with random numbers is the same each time
            torch.manual_seed(SEED)
            return timm.create_model(name, pretrained=pretrained, **options)
    except OSError as error:  # what huggingface_hub raises without network or for a repository that is not there
        raise OnnxplainError(
            f"cannot download the weights of {name} ({type(error).__name__}); "
            "give --checkpoint FILE with weights you have, or --random-init to go without"
        ) from error
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise OnnxplainError(f"timm cannot build {name} with {options}: {one_line(error)}") from error


def _require_published_head(name: str, num_classes: int | None) -> None:
    """timm would fill a head of another size with random numbers, whose explanation says nothing."""
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError as error:  # for a tag that timm does not know
        raise OnnxplainError(f"timm cannot build {name}: {error}") from error
    published = config.num_classes if config is not None else None
    if published == 0 or (published is not None and num_classes not in (None, published)):
        head = f"a head of {published} classes, not of {num_classes}" if published else "no classification head"
        raise OnnxplainError(
            f"the published weights of {name} have {head}; give weights that have one with --num-classes N and "
            "--checkpoint FILE"
        )


def checked_labels(given: Sequence[str], classes: int) -> tuple[str, ...]:
    """The labels as given; raises OnnxplainError unless there is one for each class."""
    if len(given) != classes:
        raise OnnxplainError(f"{len(given)} labels given for a model of {classes} classes")
    return tuple(given)


def _labels(model: Any, given: Sequence[str] | None) -> tuple[str, ...]:
    """The given labels, ImageNet's descriptions where the head is ImageNet's, or the class numbers."""
    classes = model.num_classes
    if given is not None:
        return checked_labels(given, classes)
    subset = infer_imagenet_subset(model) if model.pretrained_cfg.get("num_classes") == classes else None
    if subset is None:
        return tuple(str(index) for index in range(classes))
    return tuple(ImageNetInfo(subset).label_descriptions())


def _demo(labels: Sequence[str] | None) -> Backbone:
    names = DEMO_LABELS if labels is None else checked_labels(labels, len(DEMO_LABELS))
    model = demo.architecture()
    load_weights(model, Path(str(demo.WEIGHTS)))
    return Backbone(
        name="demo",
        model=model.eval(),
        preprocessing=Preprocessing(
            size=(demo.SIZE, demo.SIZE), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=1.0
        ),
        labels=names,
        activation="sigmoid",
        source=Path(str(demo.WEIGHTS)).name,
        sha256=sha256(Path(str(demo.WEIGHTS))),
    )
