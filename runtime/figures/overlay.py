"""A map drawn over the image that it explains."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..images.geometry import Window, bands
from .colours import Colours, find_colours, levels_of, line
from .drawable import Drawable
from .scale import Scale, drawn_map
from .style import Style

DESATURATION = 0.7  # of the image below the colours, which would be mistaken for theirs
GREY, GREY_OPACITY = 128, 0.5  # of the grey over what the model did not see
LINE, HALO = 255, 0  # the contour: white between dark edges, to be seen on any colour
HALO_OPACITY = 0.6
FINEST_LINE, LINES = 1.5, 400  # width of the contour: in pixels, and how many fit into the longer side


def draw_overlay(item: Drawable, style: Style, scale: Scale | None) -> Image.Image:
    """The explanation's image, with the map over it.

    What the model saw of the image is desaturated; the rest is pale grey.

    Args:
        item: With the image in the size in which it is drawn.
        style: Of which `colormap`, `opacity` and `contour` count.
        scale: What the colours span; None to draw none.

    Returns:
        RGB, of the size of the image.
    """
    drawn = bare_image(item.image, item.placement.seen)
    if scale is None:
        return drawn
    colours = find_colours(style.colormap, scale.signed, style.opacity)
    alpha = colours.alpha.tolist()
    for (rows, columns), values in _placed(item, scale):
        levels = Image.fromarray(levels_of(values, scale.signed))
        corner = (columns.start, rows.start)
        drawn.paste(_coloured(levels, colours), corner, levels.point(alpha))
        if style.contour is not None:
            _draw_contour(drawn, corner, values, style.contour)
    return drawn


def draw_map(item: Drawable, style: Style, scale: Scale | None) -> Image.Image:
    """The map alone, in full colours; what the model did not see is grey.

    Args and result are those of `draw_overlay`.
    """
    drawn = Image.new("RGB", item.image.size, (GREY,) * 3)
    colours = find_colours(style.colormap, item.signed, 1.0)
    for (rows, columns), values in _placed(item, scale):
        corner = (columns.start, rows.start)
        drawn.paste(_coloured(Image.fromarray(levels_of(values, item.signed)), colours), corner)
        if style.contour is not None:
            _draw_contour(drawn, corner, values, style.contour)
    return drawn


def bare_image(image: Image.Image, seen: Window) -> Image.Image:
    """A copy of the image: desaturated where the model saw it, pale grey elsewhere."""
    (rows, columns), (width, height) = seen, image.size
    drawn = Image.new("RGB", image.size)
    for band in bands(0, height, width):  # a large image is not held three times
        part = image.crop((0, band.start, width, band.stop))
        grey = part.convert("L")
        pale = Image.blend(grey, Image.new("L", grey.size, GREY), GREY_OPACITY).convert("RGB")
        top, bottom = max(0, rows.start - band.start), min(rows.stop, band.stop) - band.start
        if top < bottom:
            box = (columns.start, top, columns.stop, bottom)
            pale.paste(Image.blend(part, grey.convert("RGB"), DESATURATION).crop(box), box)
        drawn.paste(pale, (0, band.start))
    return drawn


def _placed(item: Drawable, scale: Scale | None) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """The map in shares of the scale, brought onto the image in bands of rows; 0 throughout without a scale."""
    values = drawn_map(item)
    return item.placement.place_seen(scale.scaled(values) if scale else np.zeros_like(values))


def _coloured(levels: Image.Image, colours: Colours) -> Image.Image:
    coloured = levels.convert("P")
    coloured.putpalette(colours.palette.tobytes())
    return coloured.convert("RGB")


def _draw_contour(drawn: Image.Image, corner: tuple[int, int], values: NDArray[np.float32], around: float) -> None:
    """A line around what is above a share of the scale, and around what is below its negative."""
    width = max(FINEST_LINE, max(drawn.size) / LINES)
    for shares in (values, -values):
        if shares.max() > around:
            for grey, wide, opacity in ((HALO, 2 * width, HALO_OPACITY), (LINE, width, 1.0)):
                covered = np.rint(255 * opacity * line(shares, around, wide)).astype(np.uint8)
                mask = Image.fromarray(covered)
                drawn.paste(Image.new("RGB", mask.size, (grey,) * 3), corner, mask)
