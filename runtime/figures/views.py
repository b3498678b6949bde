"""Figures of views without a class: the heads of a layer, and the features of patches as colours."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.geometry import Placement, resize
from .canvas import PAPER, Canvas, plain
from .drawable import MapWithoutClass
from .figure import fitted, is_cropped
from .overlay import GREY, bare_image
from .sheet import CELL, UNSEEN, Cell, Row, sheet_of
from .style import Style

if TYPE_CHECKING:
    from ..views.features import Features
    from ..views.heads import Heads

PALE = 0.7  # of the white over the background
NOTE = (
    "Foreground: where the first principal component of all images' patches is above 0. "
    "Features: the three first components of these patches as red, green and blue; "
    "the background is black."
)


def heads_figure(heads: "Heads") -> Canvas:
    """The image, and each head's map over it."""
    title = "attention pool" if heads.pool else f"layer {heads.layer}"
    where = heads.image, heads.placement
    maps = (MapWithoutClass(resize(tokens, heads.placement.crop), tokens, *where) for tokens in heads.maps)
    cells = [Cell(f"head {number}", item) for number, item in enumerate(maps)]
    return sheet_of([Row(title, plain(heads.model), heads.image, cells)], Style())


def features_figure(features: "Features", numbers: Iterable[int]) -> Canvas:
    """A row for each of these images: the image, its foreground, and the colours of that."""
    rows, notes = [], [NOTE]
    for number in numbers:
        size = fitted(features.images[number].size, CELL, CELL)
        image = features.images[number].resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        placement = replace(features.placements[number], original=(size[1], size[0]))
        if is_cropped(image.size, placement) and UNSEEN not in notes:
            notes.append(UNSEEN)
        foreground = features.foreground[number]
        cells = [
            Cell("foreground", _foreground(image, placement, foreground)),
            Cell("features", _coloured(placement, features.colours[number])),
        ]
        rows.append(Row(plain(features.model), f"foreground {foreground.mean():.0%} of the patches", image, cells))
    return sheet_of(rows, Style(), notes)


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
