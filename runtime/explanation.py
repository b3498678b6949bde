"""An explanation, and how it is drawn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.metadata import Metadata
from onnxplain.contract.precisions import FLOAT32

from .images.geometry import Map, Placement, Window

TOP_K = 5  # predictions in an Explanation, by default
COLORMAP = "inferno"  # perceptually uniform, and black at zero, so that faint values darken rather than tint
PIXEL_QUANTILE = 0.99  # of a pixel-level map's positive values: what gets the brightest colour
MAX_OPACITY = 0.8  # of the colour where the map is highest; the image must stay visible there as well
GREY, GREY_OPACITY = 128, 0.5  # of the grey over what the model did not see, which is drawn without colours


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model sees one class in one image.

    Attributes:
        input_heatmap: float32 [H, W], unscaled, over the model's input: the part of the image that preprocessing cuts
            out, resized.
        tokens: float32 [h, w], unscaled, over the patch grid; if `pixel_level`, the sums over each patch's pixels.
        target: The class index.
        label: The class's name.
        score: Its logit.
        probability: What the model's activation, softmax or sigmoid, makes of it.
        predictions: The top classes, as many as the Explainer's `top_k`, best first: (index, label, probability).
        model: The model's name.
        method: The method's name.
        parameters: All of the method's parameters, by name.
        image: The image as RGB; for an explanation of pixels, what the pixels show.
        placement: Where the model's input lies in the image.
        pixel_level: Whether the map was made pixel by pixel rather than patch by patch.
        signed: Whether values below 0 have a meaning: they count against the class.
        relative: Whether only differences within the map have a meaning, as in a map of scores; else 0 is no evidence,
            and what is below it is evidence against the class.
        resolution: How far maps of this method with its defaults are off those of the model in float64, as a share of
            the map: the worst that export measured on random images; None where it has measured nothing.
        precision: Of the artifact, one of PRECISIONS.
        placed: The map over the whole image, float32 [height, width], where the artifact gave that; else None.
            `input_heatmap` and `tokens` are then what this map shows of them, exact up to rounding as far as it does:
            where the input is padded, or the image has fewer pixels than they have values, the rest is filled smoothly.
        heatmap: float32 [height, width], unscaled, over the whole image.
    """

    input_heatmap: NDArray[np.float32]
    tokens: NDArray[np.float32]
    target: int
    label: str
    score: float
    probability: float
    predictions: list[tuple[int, str, float]]
    model: str
    method: str
    parameters: Mapping[str, Any]
    image: Image.Image
    placement: Placement
    pixel_level: bool = False
    signed: bool = False
    relative: bool = False
    resolution: float | None = None
    precision: str = FLOAT32
    placed: NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        """Class, method and sizes, in one line."""
        (height, width), (rows, columns) = self.placement.original, self.tokens.shape
        return (
            f"<Explanation of {self.label!r} (class {self.target}, score {self.score:.3f}) by {self.method}: "
            f"an image of {width} x {height} pixels, {rows} x {columns} patches>"
        )

    @cached_property
    def heatmap(self) -> NDArray[np.float32]:
        """The map over the whole image, float32 [height, width], unscaled; `placed`, or computed when it is first used.

        Outside `placement.seen`, which the model did not see, it is 0, or if `relative` the map's minimum.
        """
        if self.placed is not None:
            return self.placed
        return self.placement.place(self.input_heatmap, float(self.input_heatmap.min()) if self.relative else 0.0)

    def overlay(self) -> Image.Image:
        """Draw the heatmap over the image: the higher a value, the more opaque its colour.

        For this the heatmap is scaled to 0..1: from its minimum, or from 0 where it has negative values that count
        against the class, to its maximum. At pixel level, where neighbouring pixels often have opposite signs, it is
        first averaged over half a patch, and a high quantile of the positive values takes the maximum's place. Only
        what the model saw counts for all of this; the rest of the image is grey. Over a constant heatmap no colours
        are drawn.

        Returns:
            An RGB image of the size of `image`.
        """
        from cmap import Colormap  # here, because importing it takes longer than importing everything else

        palette = (Colormap(COLORMAP).lut(256)[:, :3] * 255).round().astype(np.uint8).tobytes()
        opacity = [_opacity(level) for level in range(256)]
        drawn = _grey_outside(self.image, self.placement.seen)
        for (rows, columns), values in self.placement.place_seen(self._levels()):
            levels = Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
            colours = levels.convert("P")
            colours.putpalette(palette)
            drawn.paste(colours.convert("RGB"), (columns.start, rows.start), levels.point(opacity))
        return drawn

    def peak(self) -> tuple[int, int] | None:
        """Where the map that `overlay` draws is highest.

        Returns:
            (y, x) of the pixel in `image`; of several, as half a patch at the border of the model's input has one
            value, the one in the middle; None if nothing is drawn.
        """
        levels = self._levels()
        if not levels.any():
            return None
        found = []  # the highest value of each band, and how often it occurs there: the places would be too many
        for _, values in self.placement.place_seen(levels):
            found.append((values.max(), np.count_nonzero(values == values.max())))
        highest = max(top for top, _ in found)
        counts = np.cumsum([count if top == highest else 0 for top, count in found])
        band = int(np.searchsorted(counts, counts[-1] // 2, side="right"))
        (rows, columns), values = next(islice(self.placement.place_seen(levels), band, None))
        peaks = np.nonzero(values == highest)[0]
        y = peaks[counts[-1] // 2 - counts[band]]  # counted from the band's end
        x = np.flatnonzero(values[y] == highest)
        return rows.start + int(y), columns.start + int(x[len(x) // 2])

    def _levels(self) -> Map:
        """The map over the model's input, scaled: 0 or less is drawn bare, 1 or more in the brightest colour.

        Nothing is above 0 if the map is constant, or has nothing that counts for the class.
        """
        drawn = _smoothed(self.input_heatmap, self.tokens.shape) if self.pixel_level else self.input_heatmap
        shown, nothing = drawn[self.placement.shown], np.zeros_like(drawn)
        if self.input_heatmap.min() == self.input_heatmap.max():
            return nothing
        low = float(shown.min()) if self.relative else max(float(shown.min()), 0.0)
        high = float(shown.max())
        if self.pixel_level and high > low:
            high = float(np.quantile(shown[shown > low], PIXEL_QUANTILE))
        if high <= low:
            return nothing
        scaled: NDArray[np.float32] = ((drawn.astype(np.float64) - low) / (high - low)).astype(np.float32)
        return scaled


def probabilities(logits: NDArray[np.float32], metadata: Metadata) -> NDArray[np.float64]:
    """The classes' probabilities, for logits [..., classes]."""
    return ACTIVATION_FUNCTIONS[metadata.activation](logits.astype(np.float64))


def top_predictions(logits: NDArray[np.float32], metadata: Metadata, count: int) -> list[tuple[int, str, float]]:
    """(index, label, probability) of so many classes, best first, from one image's logits [classes]."""
    shares = probabilities(logits, metadata)
    best = np.argsort(-logits, kind="stable")[:count].tolist()
    return [(index, metadata.labels[index], float(shares[index])) for index in best]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float64)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 + np.tanh(logits / 2)) / 2  # this form cannot overflow


ACTIVATION_FUNCTIONS = {"softmax": _softmax, "sigmoid": _sigmoid}


def _smoothed(heatmap: NDArray[np.float32], grid: tuple[int, ...]) -> NDArray[np.float32]:
    """The means over half patches, interpolated to the heatmap's size again."""
    height, width = heatmap.shape
    halves = (min(2 * grid[1], width), min(2 * grid[0], height))
    means = Image.fromarray(heatmap).resize(halves, Image.Resampling.BOX)
    return np.asarray(means.resize((width, height), Image.Resampling.BICUBIC))


def _grey_outside(image: Image.Image, seen: Window) -> Image.Image:
    """A copy of the image in which all that the model did not see is pale grey."""
    (rows, columns), (width, height) = seen, image.size
    copy = image.copy()
    for box in (
        (0, 0, width, rows.start),
        (0, rows.stop, width, height),
        (0, rows.start, columns.start, rows.stop),
        (columns.stop, rows.start, width, rows.stop),
    ):
        grey = image.crop(box).convert("L")
        copy.paste(Image.blend(grey, Image.new("L", grey.size, GREY), GREY_OPACITY).convert("RGB"), box)
    return copy


def _opacity(level: int) -> int:
    """0..255 to 0..255; the root shows middling values, which opacity in proportion would hide in the image."""
    return round(MAX_OPACITY * math.sqrt(level * 255))
