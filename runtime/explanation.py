"""An explanation, and how it is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.metadata import Metadata
from onnxplain.contract.precisions import FLOAT32

from .figures.style import OPACITY, Style
from .images.geometry import Placement
from .placed_levels import PlacedLevels

TOP_K = 5  # predictions in an Explanation, by default


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

    @property
    def title(self) -> str:
        """The method, with those of its parameters that are not the defaults, such as gmar (norm=l2)."""
        from .methods.table import METHODS

        defaults = METHODS[self.method].defaults
        changed = [f"{name}={value}" for name, value in self.parameters.items() if value != defaults.get(name)]
        return f"{self.method} ({', '.join(changed)})" if changed else self.method

    def overlay(
        self,
        colormap: str | None = None,
        opacity: float = OPACITY,
        contour: float | None = None,
        max_size: int | None = None,
    ) -> Image.Image:
        """Draw the heatmap over the image: the higher a value, the more opaque its colour.

        The colours span the heatmap from its minimum, or from 0 where it has negative values that count for nothing, to
        its maximum; of signed maps equally far on both sides of 0. At pixel level, where neighbouring pixels often have
        opposite signs, it is first averaged over half a patch, and a high quantile of the values takes the maximum's
        place. Only what the model saw counts for all of this. There the image is desaturated; the rest is grey. Over a
        constant heatmap no colours are drawn.

        Args:
            colormap: See `Style`, as for the others.
            opacity: From 0 to 1.
            contour: Between 0 and 1.
            max_size: In pixels.

        Returns:
            An RGB image of the size of `image`, or smaller if `max_size` is.

        Raises:
            OnnxplainError: If one of them is not valid.
        """
        return self.figure("bare", colormap, opacity, contour, max_size)

    def figure(
        self,
        layout: str = "side",
        colormap: str | None = None,
        opacity: float = OPACITY,
        contour: float | None = None,
        max_size: int | None = None,
    ) -> Image.Image:
        """Draw a figure: by default the image and the heatmap over it side by side, with a title and a colour bar.

        Args:
            layout: `side`, `overlay`, `map` or `bare`, see `Style`, as for the others.
            colormap: A name that the package cmap knows.
            opacity: From 0 to 1.
            contour: Between 0 and 1.
            max_size: In pixels.

        Returns:
            RGB. The image's longer side has 384 to 1600 pixels in it, or at most `max_size`.

        Raises:
            OnnxplainError: If one of them is not valid.
        """
        from .figures.figure import figure_of
        from .figures.formats import to_image

        figure = figure_of(self, Style(layout, colormap, opacity, contour, max_size=max_size))
        return figure if isinstance(figure, Image.Image) else to_image(figure)

    def _repr_png_(self) -> bytes:
        """What notebooks show."""
        from .figures.formats import encoded

        return encoded(self.figure(), "png", {})

    def peak(self) -> tuple[int, int] | None:
        """Where the map that `overlay` draws is highest.

        Returns:
            (y, x) of the pixel in `image`; of several, as half a patch at the border of the model's input has one
            value, the one in the middle; None if nothing is drawn.
        """
        return PlacedLevels(self).peak()

    def to_dict(self) -> dict[str, Any]:
        """What it says, but for the maps, as JSON can hold it.

        Returns:
            `model`, `precision`, `method`, `parameters`, `target`, `label`, `score`, `probability` and `resolution` as
            here; `width` and `height` of the image; `patch_rows` and `patch_columns`; `predictions`, a list of dicts
            with `index`, `label` and `probability`; `seen`, the part of the image that the model saw; `maximum`, the
            place [x, y] that `peak` finds, or None; and `upper_fifth`, the smallest box around the highest values which
            together hold a fifth of what `overlay` draws, or None. `seen` and this are boxes
            [left, top, right, bottom] in pixels of the image; the last two are the first beyond.
        """
        from .summary import about_image, about_map

        return {**about_image(self), **about_map(self)}


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
