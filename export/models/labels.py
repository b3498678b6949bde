"""The names of classes."""

from __future__ import annotations

from collections.abc import Sequence

from onnxplain.catalog import IMAGENET, MODELS, Row
from onnxplain.contract import OnnxplainError

from .internals.of_timm import imagenet_1k_labels
from .pooling import features_width
from .records import LoadedModel

HOW_TO_GET_CLASSES = (
    "`head`, a file such as probe writes, or `prompts` if it has a text encoder, or `num_classes` and a `checkpoint` "
    "that has a head"
)
"""What to give for a model without classes."""


def checked_labels(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    """The labels; raises OnnxplainError unless there is one for each class."""
    if len(labels) != classes:
        raise OnnxplainError(f"{len(labels)} labels given for a model of {classes} classes")
    return tuple(labels)


def labels_of(loaded: LoadedModel, row: Row, labels: Sequence[str] | None) -> tuple[str, ...]:
    """A label for each output of a model.

    Args:
        loaded: The model.
        row: Its row of the catalog.
        labels: Those that the user gave, if any.

    Returns:
        The labels given, else the model's own, else ImageNet's where a model of the catalog has so many classes, else
        numbers. Outputs that are no classes are called "feature 0", "feature 1", …

    Raises:
        OnnxplainError: If labels are given, and not one for each class.
    """
    if not loaded.classes:
        if labels is not None:
            raise OnnxplainError(f"labels given for a model without classes; it can get some with {HOW_TO_GET_CLASSES}")
        return feature_names(features_width(loaded, "own"))
    if labels is not None:
        return checked_labels(labels, loaded.classes)
    if loaded.labels is not None and len(loaded.labels) == loaded.classes:
        return loaded.labels
    known = imagenet_1k_labels() if row.name in MODELS and loaded.classes == IMAGENET else None
    return known or tuple(str(index) for index in range(loaded.classes))


def feature_names(width: int) -> tuple[str, ...]:
    """What outputs that are no classes are called, "feature 0", "feature 1" and so on."""
    return tuple(f"feature {index}" for index in range(width))
