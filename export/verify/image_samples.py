"""The gate of files that take images as they are: the same as pixels by the runtime, and maps placed by it?

That the model and its maps are right was compared before, with pixels. What is left is where images come in and maps go
out: the pixels that the file makes of an image against those of the runtime, which Pillow resizes, and what the file
gives against what it gave for the same pixels, placed by the runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract import Metadata
from onnxplain.contract.outputs import HEATMAP
from onnxplain.runtime.backends.formats import open_artifact
from onnxplain.runtime.images.geometry import Placement
from onnxplain.runtime.images.preprocessing import preprocess
from onnxplain.runtime.methods.table import METHODS

from .limits import relative_error
from .part import open_part
from .report import Check

SIZES = ((0.6, 0.7), (1.1, 2.3), (2.7, 2.9))
"""(height, width) of the images, in those of the model's input: smaller, cropped, and shrunk."""
LEVEL, SHARE = 1.0, 1e-3
"""By how many levels of 255 a pixel may differ, as where a sum is all but half way between two, and how many may."""
PLACED = 1e-4
"""Relative error of logits and maps in float32: of the same pixels, they differ by the rounding of placement alone."""

LEVELS, DIFFERENT = "levels of 255 off the runtime's pixels", "share of pixels off the runtime's"
ON_IMAGES = "error on images, against pixels and the runtime"


@dataclass(frozen=True)
class _Sample:
    """An image and what is right for it."""

    image: NDArray[np.uint8]
    pixels: NDArray[np.float32]
    placement: Placement
    outputs: dict[str, NDArray[Any]]


class ImageSamples:
    """Images, and what the runtime and a file make of them that takes pixels."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Run the file, which may be written anew afterwards.

        Args:
            path: Of the file.
            metadata: What it says about itself.
        """
        self._metadata = metadata
        self._names = [item.output for item in metadata.outputs]
        self._targets = range(min(2, len(metadata.labels)))
        artifact = open_artifact(path, "cpu", None)
        self._samples = []
        for image in _images(metadata.preprocessing.size):
            pixels, placement = preprocess(Image.fromarray(image), metadata.preprocessing)
            outputs = artifact.run(pixels[None], self._targets, self._names)
            copies = {name: values[0].copy() for name, values in outputs.items()}
            self._samples.append(_Sample(image, pixels, placement, copies))

    def compare(self, path: Path, prepared: str) -> Iterator[Check]:
        """Compare a file that takes images.

        Args:
            path: Of the file.
            prepared: The name of the value in it that stands for the pixels.

        Yields:
            The lines of the report.
        """
        std = np.array(self._metadata.preprocessing.std)[:, None, None]
        part = open_part(path, ["image"], [prepared])
        levels = []
        for sample in self._samples:
            given = part.run(None, {"image": sample.image[None]})[0][0]
            levels.append(np.abs(given - sample.pixels).astype(np.float64) * std * 255)
        yield _check("image", LEVELS, max(float(item.max()) for item in levels), LEVEL + 1e-3)
        yield _check("image", DIFFERENT, max(float((item > 0.5).mean()) for item in levels), SHARE)
        del part
        artifact = open_artifact(path, "cpu", None)
        errors: dict[str, list[float]] = {}
        for sample in self._samples:
            outputs = artifact.run(sample.image[None], self._targets, self._names)
            for name in ("logits", *self._names):
                right = _placed(name, sample)
                errors.setdefault(name, []).append(relative_error(outputs[name][0], right))
        for name, found in errors.items():
            yield _check(name, ON_IMAGES, max(found), PLACED)


def _images(size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Uneven surfaces with some grain, uint8 [height, width, 3]."""
    generator = np.random.default_rng(0)
    for factors in SIZES:
        height, width = (max(1, round(factor * length)) for factor, length in zip(factors, size, strict=True))
        coarse = generator.integers(0, 256, (2 + height // 16, 2 + width // 16, 3), dtype=np.uint8)
        surface = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int64)
        grain = generator.integers(-8, 9, surface.shape)
        yield np.clip(surface + grain, 0, 255).astype(np.uint8)


def _placed(name: str, sample: _Sample) -> NDArray[Any]:
    """What is right for an output, a map as the runtime places it."""
    values = sample.outputs[name]
    if not name.startswith(HEATMAP):
        return values
    relative = METHODS[name.removeprefix(HEATMAP)].relative
    return np.stack([sample.placement.place(one, float(one.min()) if relative else 0.0) for one in values])


def _check(name: str, check: str, value: float, limit: float) -> Check:
    return Check(name, check, value, limit, value <= limit)
