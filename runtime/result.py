"""What an explanation is, and how it is shown."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .metadata import Metadata
from .targets import class_of

TOP = 5  # predictions in an Explanation
COLORMAP = "inferno"  # perceptually uniform, and black at zero, so that faint values darken rather than tint
PIXEL_QUANTILE = 0.99  # of a pixel-level map's positive values: what gets the brightest colour
MAX_OPACITY = 0.8  # of the colour where the map is highest; the picture must stay visible there as well


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model sees one class in one picture.

    `heatmap`: float32 [height, width] of `image`, unscaled. `tokens`: float32 [h, w], the patch grid's values,
    unscaled. `target`: the class index, `label` its name, `score` its logit. `predictions`: the top five
    (index, label, probability), best first. `image`: the picture as RGB; for an explanation of pixels, the picture
    that the pixels show. `pixel_level`: whether the map was made pixel by pixel rather than patch by patch; then
    `tokens` are the sums over each patch's pixels. `relative`: whether only differences mean anything, as in a map of
    scores; else 0 is no evidence, and what is below it is evidence against the class. `resolution`: how far float32
    is off in maps of this method with its defaults, as a share of the map: the worst that export measured for this
    artifact on random images; None where it has measured nothing.
    """

    heatmap: NDArray[np.float32]
    tokens: NDArray[np.float32]
    target: int
    label: str
    score: float
    predictions: list[tuple[int, str, float]]
    method: str
    image: Image.Image
    pixel_level: bool = False
    relative: bool = False
    resolution: float | None = None

    def overlay(self) -> Image.Image:
        """The picture, RGB, under the heatmap's colours; the higher a value, the more opaque its colour.

        The heatmap is scaled to 0..1 for this: from its minimum, or from 0 where it has negative values that count
        against the class, to its maximum. At pixel level, where neighbouring pixels often have opposite signs, it is
        first averaged over half a patch, and a high quantile of the positive values takes the maximum's place. A
        constant heatmap leaves the picture bare.
        """
        from cmap import Colormap  # here, because importing it takes longer than importing everything else

        levels = Image.fromarray(self._levels())
        colours = levels.convert("P")
        colours.putpalette((Colormap(COLORMAP).lut(256)[:, :3] * 255).round().astype(np.uint8).tobytes())
        return Image.composite(colours.convert("RGB"), self.image, levels.point(_opacity))

    def _levels(self) -> NDArray[np.uint8]:
        """The heatmap as 0..255, and 0 if it is constant."""
        heatmap = self.heatmap
        if heatmap.min() == heatmap.max():
            return np.zeros(heatmap.shape, dtype=np.uint8)
        if self.pixel_level:
            heatmap = _smoothed(heatmap, self.tokens.shape)
        low = float(heatmap.min()) if self.relative else max(float(heatmap.min()), 0.0)
        high = float(heatmap.max())
        if self.pixel_level and high > low:
            high = float(np.quantile(heatmap[heatmap > low], PIXEL_QUANTILE))
        if high <= low:
            return np.zeros(heatmap.shape, dtype=np.uint8)
        scaled = np.clip((heatmap - low) / (high - low), 0, 1)
        levels: NDArray[np.uint8] = np.rint(scaled * 255).astype(np.uint8)
        return levels


def probabilities(logits: NDArray[np.float32], metadata: Metadata) -> NDArray[np.float64]:
    """The classes' probabilities, for logits [..., classes]."""
    return ACTIVATION_FUNCTIONS[metadata.activation](logits.astype(np.float64))


def top_predictions(logits: NDArray[np.float32], metadata: Metadata) -> list[tuple[int, str, float]]:
    """(index, label, probability) of the top five classes, best first, from one picture's logits [classes]."""
    shares = probabilities(logits, metadata)
    best = [class_of(-rank, logits) for rank in range(1, min(TOP, len(logits)) + 1)]
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


def _opacity(level: int) -> float:
    """0..255 to 0..255; the root shows middling values, which opacity in proportion would hide in the picture."""
    return MAX_OPACITY * math.sqrt(level * 255)
