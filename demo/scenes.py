"""Synthetic scenes with a known answer to "where did it look for class k?".

A scene shows two or three *different* handwritten digits (scikit-learn's ``load_digits``) at random places, sizes,
angles and colours over textured clutter. Every class asked for has a place, so a map can be right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 96
"""Side of a scene in pixels."""

DIGITS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"
"""The names of the classes."""

RASTER = 8
"""Digits start at multiples of so many pixels, the size of the model's patches: so they are learnt in minutes."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Scene:
    """One image and its ground truth.

    Attributes:
        image: uint8 [H, W, 3].
        labels: The digit classes shown, all different.
        boxes: int [len(labels), 4], (left, top, right, bottom) in pixels, right and bottom exclusive.
    """

    image: NDArray[np.uint8]
    labels: tuple[int, ...]
    boxes: NDArray[np.int64]


def scene(seed: int, split: Split = "test", size: int = SIZE, digits: tuple[int, int] = (2, 3)) -> Scene:
    """Draw the scene that belongs to ``seed``.

    Args:
        seed: The same seed gives the same scene.
        split: Which digits to draw from. A handwritten digit is in one split only, so a test scene shows strokes that
            training never saw.
        size: Side of the image in pixels.
        digits: Least and greatest number of digits. They do not touch each other.
    """
    rng = np.random.default_rng([seed, ("train", "test").index(split)])
    count = int(rng.integers(digits[0], digits[1] + 1))
    labels = tuple(int(label) for label in rng.permutation(10)[:count])
    shapes = [_shape(rng, label, split) for label in labels]
    corners = _places(rng, [shape.shape for shape in shapes], size)
    canvas = _clutter(rng, size)
    boxes = []
    for shape, (top, left) in zip(shapes, corners, strict=True):
        height, width = shape.shape
        window = canvas[top : top + height, left : left + width]
        window += shape[..., None] * (_bright_colour(rng) - window)
        boxes.append((left, top, left + width, top + height))
    canvas += rng.normal(0, 5, canvas.shape)
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), labels, np.array(boxes))


@cache
def _digits(split: Split) -> tuple[tuple[NDArray[np.uint8], ...], ...]:
    """All handwritten digits of a split, by class, each uint8 [8, 8]."""
    from sklearn.datasets import load_digits

    digits, classes = load_digits(return_X_y=True)
    digits = np.minimum(digits.reshape(-1, 8, 8) * 16, 255).astype(np.uint8)
    is_test = np.random.default_rng(0).random(len(digits)) < 0.25
    chosen = is_test == (split == "test")
    return tuple(tuple(digits[chosen & (classes == k)]) for k in range(10))


def _shape(rng: np.random.Generator, label: int, split: Split) -> NDArray[np.float64]:
    """A digit's opacity, 0..1, cut to its bounding box: four to five 8-pixel patches high."""
    candidates = _digits(split)[label]
    digit = Image.fromarray(candidates[rng.integers(len(candidates))])
    side = int(rng.integers(34, 43))
    margin = side // 4  # the digit may turn without leaving its image
    big = Image.new("L", (side + 2 * margin,) * 2)
    big.paste(digit.resize((side, side), Image.Resampling.BICUBIC), (margin, margin))
    turned = big.rotate(float(rng.uniform(-8, 8)), Image.Resampling.BICUBIC)
    opacity = np.clip((np.asarray(turned) / 255 - 0.3) / 0.3, 0, 1)
    rows, columns = np.nonzero(opacity > 0.5)
    return opacity[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _places(rng: np.random.Generator, shapes: list[tuple[int, ...]], size: int) -> list[tuple[int, int]]:
    """A (top, left) on the raster for every shape, so that no two overlap. Draws until a try fits."""
    while True:
        corners = [
            (RASTER * int(rng.integers((size - h) // RASTER + 1)), RASTER * int(rng.integers((size - w) // RASTER + 1)))
            for h, w in shapes
        ]
        taken = np.zeros((size, size), int)
        for (top, left), (height, width) in zip(corners, shapes, strict=True):
            taken[top : top + height, left : left + width] += 1
        if taken.max() == 1:
            return corners


def _clutter(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A dark textured background with random strokes, float [size, size, 3], about 0..140."""
    canvas = np.full((size, size, 3), rng.uniform(0, 40, 3))
    for cells, strength in ((6, 60), (24, 60)):
        noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        canvas += strength * (np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)) / 255)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(6, 13))):
        start = rng.uniform(0, size, 2)
        end = start + rng.normal(0, size / 6, 2)
        colour = tuple(int(c) for c in rng.uniform(40, 150, 3))
        draw.line([*start, *end], colour, width=int(rng.integers(1, 4)))
    return np.asarray(image).astype(float)


def _bright_colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random hue, light enough to stand out from the clutter, float [3]."""
    colour = rng.uniform(0, 1, 3)
    colour /= colour.max()
    return 255 * (0.55 + 0.45 * colour)
