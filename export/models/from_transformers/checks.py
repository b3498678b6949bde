"""The fields of the files in a transformers folder, checked before anything is built from them.

The library itself accepts nearly anything, and fails much later, after a long time, or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from onnxplain.contract import OnnxplainError
from onnxplain.contract.validation import SIDE, Rule, is_int, is_number

SHOWN = 60
"""Characters of a wrong value that an error shows."""


def _count(most: int, least: int = 1) -> Rule:
    return f"an integer from {least} to {most}", lambda value: is_int(value, least, most)


def _is_side(value: Any) -> bool:
    return is_int(value, 1, SIDE)


def _are_three(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(is_number, value))


_SIDES: Rule = (
    f"a number of pixels from 1 to {SIDE}, or two of them",
    lambda value: all(map(_is_side, value)) and len(value) == 2 if isinstance(value, list | tuple) else _is_side(value),
)
_SWITCH: Rule = ("true or false", lambda value: isinstance(value, bool))

CONFIG: dict[str, Rule] = {
    "architectures": (
        "a list of names of classes",
        lambda value: isinstance(value, list | tuple) and all(isinstance(name, str) for name in value),
    ),
    "id2label": (
        "an object that names each class, from 0 on without a gap",
        lambda value: (
            isinstance(value, Mapping)
            and set(value) == set(range(len(value)))
            and all(isinstance(label, str | int) for label in value.values())
        ),
    ),
    "num_hidden_layers": _count(1000),
    "num_attention_heads": _count(1000),
    "hidden_size": _count(2**16),
    "intermediate_size": _count(2**20),
    "projection_dim": _count(2**16),
    "num_register_tokens": _count(1000, 0),
    "vocab_size": _count(10**7),
    "max_position_embeddings": _count(10**6),
    "num_channels": ("3, the colours of an image", lambda value: is_int(value, 3, 3)),
    "image_size": _SIDES,
    "patch_size": _SIDES,
}
"""Fields of config.json and of its parts for images and texts, where they have them."""

PROCESSOR: dict[str, Rule] = {
    "size": (
        f"shortest_edge alone, or height and width, from 1 to {SIDE} pixels",
        lambda value: (
            _are_sides(value, "height", "width")
            or (_are_sides(value, "shortest_edge") and value.get("longest_edge") is None)
        ),
    ),
    "crop_size": (f"height and width, from 1 to {SIDE} pixels", lambda value: _are_sides(value, "height", "width")),
    "do_resize": _SWITCH,
    "do_center_crop": _SWITCH,
    "do_rescale": _SWITCH,
    "do_normalize": _SWITCH,
    "do_pad": ("false: the model's input is what was cropped", lambda value: value is False),
    "rescale_factor": ("a number", is_number),
    "resample": (
        f"a number from 0 to {len(Image.Resampling) - 1}, as Pillow counts its filters",
        lambda value: is_int(value, 0, len(Image.Resampling) - 1),
    ),
    "image_mean": ("three numbers", _are_three),
    "image_std": ("three numbers", _are_three),
}
"""Fields of an image processor."""
OPTIONAL = ("crop_size", "do_center_crop", "do_pad")
"""Fields that not every image processor has."""


def _are_sides(value: Any, *names: str) -> bool:
    return hasattr(value, "get") and all(_is_side(value.get(name)) for name in names)


def check_config(path: Path, config: Any) -> None:
    """Raise OnnxplainError, naming the field, unless a model can be built as the configuration at ``path`` says."""
    for part in (config, getattr(config, "vision_config", None), getattr(config, "text_config", None)):
        _check(path, part, CONFIG)


def check_processor(path: Path, processor: Any) -> None:
    """Raise OnnxplainError, naming the field, unless the image processor's file at ``path`` can be followed."""
    cropped = {"crop_size"} if getattr(processor, "do_center_crop", None) else set()
    needed = PROCESSOR.keys() - set(OPTIONAL) | cropped
    _check(path, processor, PROCESSOR, needed)


def _check(path: Path, record: Any, rules: Mapping[str, Rule], needed: Collection[str] = ()) -> None:
    for name, (description, fits) in rules.items():
        value = getattr(record, name, None)
        if (value is not None or name in needed) and not fits(value):
            text = ascii(value)
            shown = text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
            raise OnnxplainError(f"{path}: {name} must be {description}, got {shown}")
