"""What programs in any language need to run an artifact: inputs, outputs and preprocessing, from the metadata alone."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from .metadata import Metadata
from .outputs import ALWAYS
from .preprocessing import Preprocessing

READ_IMAGE = (
    "decode the image, turn it upright as its EXIF orientation says, put transparent parts on white, and make it 8-bit "
    "RGB, uint8 [height, width, 3]"
)


@dataclass(frozen=True)
class Tensor:
    """An input or output of the graph.

    Attributes:
        name: Its name.
        type: The type of its elements, as NumPy calls it.
        shape: The length of each axis, or the axis's name where the caller decides: batch, targets, height, width.
        optional: Whether an input may be left out.
    """

    name: str
    type: str
    shape: tuple[int | str, ...]
    optional: bool = False


def inputs(metadata: Metadata) -> tuple[Tensor, ...]:
    """The inputs of the graph, in its order: the image, the targets, and the flags."""
    kind = "uint8" if metadata.input == "image" else "float32"
    image = Tensor(metadata.input, kind, metadata.input_shape("batch"))
    target = Tensor("target", "int64", ("batch", "targets"))
    if metadata.flags == "none":
        return image, target
    optional = metadata.flags == "optional"
    shape = () if optional else ("batch",)
    return image, target, *(Tensor(item.flag, "bool", shape, optional) for item in metadata.outputs)


def outputs(metadata: Metadata) -> tuple[Tensor, ...]:
    """The outputs of the graph, in its order."""
    names = (*ALWAYS, *(item.output for item in metadata.outputs))
    return tuple(
        Tensor(name, "int64" if name == "class_index" else "float32", metadata.full_shape(name, "batch", "targets"))
        for name in names
    )


def preprocessing_steps(metadata: Metadata) -> list[str]:
    """How an image file becomes the graph's first input, one step after the other, in words and numbers."""
    if metadata.input == "image":
        return [f"{READ_IMAGE}: that is the input image, the graph does the rest"]
    preprocessing = metadata.preprocessing
    height, width = preprocessing.size
    mean, std = (list(values) for values in (preprocessing.mean, preprocessing.std))
    return [
        READ_IMAGE,
        f"resize it {_resized(preprocessing)}, as Pillow does with its {preprocessing.interpolation} filter",
        f"cut {height} x {width} pixels (height x width) out of its centre, beginning at {_offset(preprocessing)}; "
        f"where it is smaller, pad with {_padding(preprocessing)}",
        f"make it float32, each channel (value / 255 - mean) / std with the means {mean} and the standard deviations "
        f"{std}",
        f"put the channels first: that is the input pixels, [batch, 3, {height}, {width}]",
    ]


def _resized(preprocessing: Preprocessing) -> str:
    height, width = (math.floor(length / preprocessing.crop_pct) for length in preprocessing.size)
    if preprocessing.crop_mode == "squash":
        return f"to {height} x {width} pixels (height x width)"
    if preprocessing.crop_mode == "center" and height == width:
        return f"so that its shorter side is {height} pixels and its longer one floor({height} * longer / shorter)"
    which = "larger" if preprocessing.crop_mode == "border" else "smaller"
    return (
        f"to round(height / ratio) x round(width / ratio) pixels, halves to even and at least 1, where ratio is the "
        f"{which} one of height / {height} and width / {width}"
    )


def _offset(preprocessing: Preprocessing) -> str:
    if preprocessing.crop_rounding == "floor":
        return "floor((length - size) / 2) of each axis"
    return "round((length - size) / 2) of each axis, halves to even; of one to be padded at -floor((size - length) / 2)"


def _padding(preprocessing: Preprocessing) -> str:
    return f"{list(preprocessing.padding)}" if preprocessing.crop_mode == "border" else "black"


def description(metadata: Metadata) -> dict[str, Any]:
    """The whole as one JSON document.

    Args:
        metadata: The artifact's.

    Returns:
        `metadata` as the artifact has them, `inputs` and `outputs` as lists of the fields of `Tensor`, and
        `preprocessing_steps`.
    """
    return {
        "metadata": json.loads(metadata.to_json()),
        "inputs": [asdict(item) for item in inputs(metadata)],
        "outputs": [
            {name: value for name, value in asdict(item).items() if name != "optional"} for item in outputs(metadata)
        ],
        "preprocessing_steps": preprocessing_steps(metadata),
    }
