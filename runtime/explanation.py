"""What an explanation is, and how it is shown."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.metadata import Metadata

from .images.geometry import Map, Placement, Window

TOP_K = 5  # predictions in an Explanation, unless told otherwise
COLORMAP = "inferno"  # perceptually uniform, and black at zero, so that faint values darken rather than tint
PIXEL_QUANTILE = 0.99  # of a pixel-level map's positive values: what gets the brightest colour
MAX_OPACITY = 0.8  # of the colour where the map is highest; the picture must stay visible there as well
VEIL, VEIL_OPACITY = 128, 0.5  # the grey over what the model did not see, which has no colours left either


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model sees one class in one picture.

    `input_heatmap`: float32 [H, W], unscaled, over what the model was given: the part of the picture that preprocessing
    cuts out, resized; `placement` says where that lies in the picture. `heatmap`: the same over the whole picture.
    `tokens`: float32 [h, w], the patch grid's values, unscaled. `target`: the class index, `label` its name, `score`
    its logit. `predictions`: the top five, or the Explainer's `top_k`, as (index, label, probability), best first.
    `image`: the picture as RGB; for an explanation of pixels, the picture that the pixels show. `pixel_level`: whether
    the map was made pixel by pixel rather than patch by patch; then `tokens` are the sums over each patch's pixels.
    `relative`: whether only differences mean anything, as in a map of scores; else 0 is no evidence, and what is below
    it is evidence against the class. `resolution`: how far float32 is off in maps of this method with its defaults, as
    a share of the map: the worst that export measured for this artifact on random images; None where it has measured
    nothing.
    """

    input_heatmap: NDArray[np.float32]
    tokens: NDArray[np.float32]
    target: int
    label: str
    score: float
    predictions: list[tuple[int, str, float]]
    method: str
    image: Image.Image
    placement: Placement
    pixel_level: bool = False
    relative: bool = False
    resolution: float | None = None

    def __repr__(self) -> str:
        """Class, method and sizes, in one line."""
        (height, width), (rows, columns) = self.placement.original, self.tokens.shape
        return (
            f"<Explanation of {self.label!r} (class {self.target}, score {self.score:.3f}) by {self.method}: "
            f"a picture of {width} x {height} pixels, {rows} x {columns} patches>"
        )

    @cached_property
    def heatmap(self) -> NDArray[np.float32]:
        """float32 [height, width] of `image`, unscaled, made when it is first asked for.

        Outside `placement.seen`, which the model did not see, it is 0, or if `relative` the map's minimum.
        """
        return self.placement.place(self.input_heatmap, float(self.input_heatmap.min()) if self.relative else 0.0)

    def overlay(self) -> Image.Image:
        """The picture, RGB, under the heatmap's colours; the higher a value, the more opaque its colour.

        The heatmap is scaled to 0..1 for this: from its minimum, or from 0 where it has negative values that count
        against the class, to its maximum. At pixel level, where neighbouring pixels often have opposite signs, it is
        first averaged over half a patch, and a high quantile of the positive values takes the maximum's place. Only
        what the model saw counts for all of this; the rest of the picture is shown in grey. A constant heatmap leaves
        the picture bare.
        """
        from cmap import Colormap  # here, because importing it takes longer than importing everything else

        palette = (Colormap(COLORMAP).lut(256)[:, :3] * 255).round().astype(np.uint8).tobytes()
        opacity = [_opacity(level) for level in range(256)]
        picture = _veiled(self.image, self.placement.seen)
        for (rows, columns), values in self.placement.place_seen(self._levels()):
            levels = Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))
            colours = levels.convert("P")
            colours.putpalette(palette)
            picture.paste(colours.convert("RGB"), (columns.start, rows.start), levels.point(opacity))
        return picture

    def peak(self) -> tuple[int, int] | None:
        """(y, x) of the pixel of `image` where the map that `overlay` draws is highest, None if it draws nothing.

        Of several, as half a patch at the border of the model's input has one value, it is the one in the middle.
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
    """(index, label, probability) of so many classes, best first, from one picture's logits [classes]."""
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


def _veiled(image: Image.Image, seen: Window) -> Image.Image:
    """A copy of the picture with all but the part that the model saw in pale grey."""
    (rows, columns), (width, height) = seen, image.size
    copy = image.copy()
    for box in (
        (0, 0, width, rows.start),
        (0, rows.stop, width, height),
        (0, rows.start, columns.start, rows.stop),
        (columns.stop, rows.start, width, rows.stop),
    ):
        grey = image.crop(box).convert("L")
        copy.paste(Image.blend(grey, Image.new("L", grey.size, VEIL), VEIL_OPACITY).convert("RGB"), box)
    return copy


def _opacity(level: int) -> int:
    """0..255 to 0..255; the root shows middling values, which opacity in proportion would hide in the picture."""
    return round(MAX_OPACITY * math.sqrt(level * 255))
