"""Private parts of timm, tested with timm 1.0.31."""

from __future__ import annotations

import sys
from typing import Any

import timm
from torch import Tensor, nn

from .convenience import convenience


def create_with_state(name: str, state: dict[str, Tensor] | None, pretrained: bool, options: dict[str, Any]) -> Any:
    """timm.create_model with weights that are already read; timm converts them as its published ones.

    Args:
        name: As for create_model.
        state: The weights, None to have timm download them, if ``pretrained``.
        pretrained: As for create_model.
        options: More of its arguments.
    """
    overlay = None if state is None else {"state_dict": state}
    model = timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, **options)
    if state is not None:
        with convenience("timm keeps a second copy of the weights in memory"):
            vars(model)["pretrained_cfg"].pop("state_dict")
    return model


def convert_state(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights in foreign layouts and for other position grids, converted as timm does for this kind of model.

    Raises anything if the weights do not fit. A model that is not timm's is given what it was given.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    converted: dict[str, Tensor] = convert(state, model)
    return converted


WITHOUT_LABELS = "classes have numbers in place of ImageNet's labels"


def imagenet_1k_labels() -> tuple[str, ...] | None:
    """A description of each class of ImageNet-1k, None where timm does not give them."""
    with convenience(WITHOUT_LABELS):
        from timm.data import ImageNetInfo

        return tuple(ImageNetInfo().label_descriptions())
    return None


def imagenet_labels(model: Any) -> tuple[str, ...] | None:
    """A description of each class, where the head is that of published weights for ImageNet or a part of it."""
    with convenience(WITHOUT_LABELS):
        from timm.data import ImageNetInfo, infer_imagenet_subset

        is_published = model.pretrained_cfg.get("num_classes") == model.num_classes
        subset = infer_imagenet_subset(model) if is_published else None
        return None if subset is None else tuple(ImageNetInfo(subset).label_descriptions())
    return None
