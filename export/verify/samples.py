"""The images and classes for which the gate compares, and outputs for one of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from onnxplain.contract import Metadata
from onnxplain.contract.outputs import ALWAYS, output_of

from .portions import IMAGES, TARGETS

Tensors = Mapping[str, NDArray[Any]]
"""Outputs by name."""


class Samples:
    """Random images and classes.

    Attributes:
        pixels: Of the images, float32 [IMAGES, 3, H, W].
        targets: The classes.
        asked: By image the class for which PyTorch is run.
    """

    def __init__(self, metadata: Metadata) -> None:
        """For a file that says this about itself."""
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(IMAGES, 3, *metadata.preprocessing.size, generator=generator)
        self.targets = tuple(torch.randperm(len(metadata.labels), generator=generator)[:TARGETS].tolist())
        # In another order than the images: where the two axes are mixed up, it shows.
        self.asked = {image: self.targets[-1 - image % len(self.targets)] for image in range(IMAGES)}

    def one(self, image: int, target: int) -> tuple[Tensor, Tensor]:
        """An image [1, 3, H, W] and a class, int64 [1, 1]."""
        return self.pixels[image : image + 1], torch.tensor([[target]])


def sample(tensors: Tensors, names: Collection[str], row: int, column: int) -> dict[str, NDArray[Any]]:
    """These outputs for one image and class, with an axis of classes where they have one, and no memory of others."""
    places = {name: (row, slice(column, column + 1)) if _per_target(name) else (row,) for name in names}
    parts = {name: tensors[name][place] for name, place in places.items()}
    return {name: part if part.size == tensors[name].size else part.copy() for name, part in parts.items()}


def _per_target(name: str) -> bool:
    return name not in ALWAYS and output_of(name).per_target


def last_bit(pixels: Tensor) -> Tensor:
    """Every number changed to one beside it."""
    signs = torch.randint(2, pixels.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return pixels.nextafter(signs * torch.full_like(pixels, torch.inf))
