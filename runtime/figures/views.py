"""Figures of views without a class: the heads of a layer, and the features of patches as colours."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.geometry import Placement, resize
from .canvas import FAINT, INK, PAPER, Canvas, Raster, Text, plain, shortened, wrapped
from .figure import GAP, SMALL, fitted
from .overlay import GREY, bare_image
from .sheet import CELL, LINE, MARGIN, Cell, Row, sheet_of
from .style import Style

if TYPE_CHECKING:
    from ..explanation import Explanation
    from ..views.features import Features
    from ..views.heads import Heads

PALE = 0.7  # of the white over the background
PANELS = ("image", "foreground", "features")
NOTE = (
    "Foreground: where the first principal component of all images' patches is above 0. "
    "Features: the three first components of these patches as red, green and blue."
)


def heads_figure(heads: "Heads") -> Canvas:
    """The image, and each head's map over it."""
    title = "attention pool" if heads.pool else f"layer {heads.layer}"
    cells = [Cell(f"head {number}", _as_explanation(heads, number)) for number in range(len(heads.maps))]
    return sheet_of([Row(title, plain(heads.model), heads.image, cells)], Style())


def _as_explanation(heads: "Heads", number: int) -> "Explanation":
    """The map of one head in the form in which maps are drawn; it has no class."""
    from ..explanation import Explanation

    tokens = heads.maps[number]
    whole = resize(tokens, heads.placement.crop)
    return Explanation(
        input_heatmap=whole,
        tokens=tokens,
        target=0,
        label="",
        score=0.0,
        probability=0.0,
        predictions=[],
        model=heads.model,
        method="raw_attention",
        parameters={"layer": heads.layer},
        image=heads.image,
        placement=heads.placement,
    )


def features_figure(features: "Features", numbers: Iterable[int]) -> Canvas:
    """A row for each of these images: the image, its foreground, and the colours of that."""
    sizes = {number: fitted(features.images[number].size, CELL, CELL) for number in numbers}
    step = max(width for width, _ in sizes.values()) + GAP
    items: list[Text | Raster] = []
    for place, name in enumerate(PANELS):
        items.append(Text(MARGIN + place * step, MARGIN + SMALL, name, SMALL, INK if place else FAINT))
    top = MARGIN + LINE
    for number, size in sizes.items():
        image = features.images[number].resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        placement = replace(features.placements[number], original=(size[1], size[0]))
        panels = (
            image,
            _foreground(image, placement, features.foreground[number]),
            _coloured(placement, features.colours[number]),
        )
        items += [Raster(MARGIN + place * step, top, panel) for place, panel in enumerate(panels)]
        top += size[1] + GAP
    width = len(PANELS) * step - GAP
    lines = [*wrapped(NOTE, SMALL, width), shortened(plain(features.model), SMALL, width)]
    items += [Text(MARGIN, top + SMALL + at * LINE, line, SMALL, FAINT) for at, line in enumerate(lines)]
    return Canvas(2 * MARGIN + width, top + len(lines) * LINE + MARGIN, [*items])


def _foreground(image: Image.Image, placement: Placement, foreground: NDArray[np.bool_]) -> Image.Image:
    """The image, in its own colours where the foreground is, and pale elsewhere."""
    bare = bare_image(image, placement.seen)
    drawn = Image.blend(bare, Image.new("RGB", bare.size, PAPER), PALE)
    mask = placement.place(_over_input(foreground.astype(np.float32), placement)) >= 0.5
    drawn.paste(image, (0, 0), Image.fromarray(mask))
    return drawn


def _coloured(placement: Placement, colours: NDArray[np.float32]) -> Image.Image:
    """The colours of the patches; what the model did not see is grey."""
    channels = [
        placement.place(_over_input(colours[..., channel], placement), GREY / 255)
        for channel in range(colours.shape[-1])
    ]
    return Image.fromarray(np.rint(255 * np.clip(np.stack(channels, -1), 0, 1)).astype(np.uint8))


def _over_input(patches: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """The value of each pixel's patch, [h, w] to [H, W] = `placement.crop`: patches stay what they are, and visible."""
    rows, columns = (
        np.arange(length) * count // length for length, count in zip(placement.crop, patches.shape, strict=True)
    )
    return np.asarray(patches[rows[:, None], columns])
