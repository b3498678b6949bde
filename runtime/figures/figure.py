"""One explanation as a figure: the image and the map over it, under a title, beside a colour bar."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from ..images.geometry import Placement
from .canvas import FAINT, Box, Canvas, Raster, Text, plain, shortened, text_width
from .colours import LEVELS, find_colours
from .drawable import Drawable
from .overlay import GREY, draw_map, draw_overlay
from .scale import Scale, find_scale
from .style import Style

if TYPE_CHECKING:
    from ..explanation import Explanation

Shown = TypeVar("Shown", bound=Drawable)

LEAST, MOST = 384, 1600  # pixels of the image's longer side in a figure
GAP = 12
TITLE, SMALL = 18, 13  # sizes of the font: of the class, and of all else
GROWING = 768  # the longer side from which on text and gaps grow with the image
FRAMES = ("#ffffff", "#1f2328")  # around what the model saw: a light line and a dark one, to be seen on any image
DOT = "·"
NOTHING = 0.002  # share of the scale


@dataclass(frozen=True)
class Lengths:
    """Of a figure, in pixels: the font's sizes, and what is between the parts."""

    title: int
    small: int
    leading: int  # from line to line
    margin: int
    gap: int
    bar: int  # the colour bar's width
    tick: int  # from it to its numbers
    line: int  # of the frame around what the model saw

    @classmethod
    def of(cls, size: tuple[int, int]) -> "Lengths":
        """For an image of this size: text in a large figure is as large, in proportion, as in a small one."""
        factor = max(1.0, max(size) / GROWING)
        return cls(*(round(factor * length) for length in (TITLE, SMALL, 24, 16, GAP, 10, 4, 1)))


def figure_of(
    explanation: "Explanation", style: Style, scale: Scale | None = None, method: str = ""
) -> Canvas | Image.Image:
    """Draw an explanation.

    Args:
        explanation: What to draw.
        style: How; its `scale` does not count.
        scale: What the colours span; None for what suits the map alone.
        method: What the title calls it; empty for the method with those parameters that are not the defaults.

    Returns:
        A canvas; for the layout `bare` the image itself.
    """
    scale = scale or find_scale(explanation)
    if style.layout == "bare":
        size = fitted(explanation.image.size, 1, style.max_size or max(explanation.image.size))
        return draw_overlay(resized(explanation, size), style, scale)
    shown = resized(explanation, fitted(explanation.image.size, LEAST, style.max_size or MOST))
    panels = [draw_map(shown, style, scale) if style.layout == "map" else draw_overlay(shown, style, scale)]
    if style.layout == "side":
        panels.insert(0, shown.image)
    (width, height), length = shown.image.size, Lengths.of(shown.image.size)
    inner = len(panels) * (width + length.gap) - length.gap
    numbers = max((text_width(text, length.small) for _, text in _marks(scale)), default=0)
    bar = 0 if scale is None else length.gap + length.bar + length.tick + math.ceil(numbers)
    title = _title(shown, method or explanation.title, inner, length)
    top = length.margin + length.leading * len(title) + length.gap // 2
    ends = [word.x + text_width(word.text, word.size) for line in title for word in line if word.anchor == "start"]
    canvas = Canvas(2 * length.margin + math.ceil(max(inner + bar, *ends)), top + height + length.margin)
    for line, words in enumerate(title):
        baseline = length.margin + length.title + line * length.leading
        canvas.add(*(replace(word, x=length.margin + word.x, y=baseline) for word in words))
    for place, panel in enumerate(panels):
        left = length.margin + place * (width + length.gap)
        canvas.add(Raster(left, top, panel), *_frame(shown, left, top, length.line))
    if scale is not None:
        canvas.add(*_bar(scale, style, length.margin + inner + length.gap, top, height, length))
    return canvas


def resized(item: Shown, size: tuple[int, int]) -> Shown:
    """The same with the image in another size, (width, height), as it is drawn: colours are found there."""
    if size == item.image.size:
        return item
    image = item.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return replace(item, image=image, placement=replace(item.placement, original=(size[1], size[0])))


def fitted(size: tuple[int, int], least: int, most: int) -> tuple[int, int]:
    """The size at which the longer side is within these bounds; where they contradict, the upper one counts."""
    longer = max(size)
    scale = min(max(longer, least), most) / longer
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def is_cropped(size: tuple[int, int], placement: Placement) -> bool:
    """Whether there is a part of an image of that size, (width, height), that the model did not see."""
    (rows, columns), (width, height) = placement.seen, size
    return (rows.start, rows.stop, columns.start, columns.stop) != (0, height, 0, width)


def _title(explanation: "Explanation", method: str, width: int, length: Lengths) -> list[list[Text]]:
    """One line, or two if it is too long: class and probability; method and model."""
    room = max(width, LEAST)  # below a narrow image there is white paper beside it
    share = f"{explanation.probability:.1%}"
    label = plain(explanation.label) or f"class {explanation.target}"
    label = shortened(label, length.title, room - text_width(f"  {share}", length.title))
    after = text_width(f"{label}  ", length.title)
    first = [Text(0, 0, label, length.title), Text(after, 0, share, length.small, FAINT)]
    about = f"{plain(method)} {DOT} {plain(explanation.model)}"
    if after + text_width(f"{share}    {about}", length.small) <= width:
        return [[*first, Text(width, 0, about, length.small, FAINT, "end")]]
    return [first, [Text(0, 0, shortened(about, length.small, room), length.small, FAINT)]]


def _frame(explanation: "Explanation", left: int, top: int, line: int) -> list[Box]:
    """Two lines around what the model saw, if it is not the whole image."""
    if not is_cropped(explanation.image.size, explanation.placement):
        return []
    rows, columns = explanation.placement.seen
    boxes = []
    for inset, colour in zip((0, line), FRAMES, strict=True):
        first = (left + columns.start + inset, top + rows.start + inset)
        end = (left + columns.stop - inset, top + rows.stop - inset)
        if first[0] < end[0] and first[1] < end[1]:  # there is no room for both in an image that is a line of pixels
            boxes.append(Box(*first, *end, colour, line))
    return boxes


def _marks(scale: Scale | None) -> list[tuple[float, str]]:
    """The values on the colour bar: (share of the bar's height from the top, number)."""
    if scale is None:
        return []
    values = [scale.high, 0.0, scale.low] if scale.signed else [scale.high, scale.low]
    return [(place / (len(values) - 1), number(value, scale)) for place, value in enumerate(values)]


def number(value: float, scale: Scale) -> str:
    """A value in two digits; what is next to nothing on the scale is 0."""
    return "0" if abs(value) < NOTHING * (scale.high - scale.low) else f"{value:.2g}"


def _bar(scale: Scale, style: Style, left: int, top: int, height: int, length: Lengths) -> list[Raster | Box | Text]:
    """The colour bar with its numbers."""
    bar = colour_bar(scale, style).resize((length.bar, height), Image.Resampling.BILINEAR)
    items: list[Raster | Box | Text] = [Raster(left, top, bar)]
    half = length.small * 0.36  # of a digit's height
    marks = _marks(scale)
    for share, text in marks if len(marks) * length.small <= height else ():
        middle = min(max(share * height, half), height - half)
        items.append(Text(left + length.bar + length.tick, round(top + middle + half), text, length.small, FAINT))
    return items


def colour_bar(scale: Scale, style: Style) -> Image.Image:
    """The colours from the highest, at the top, to the lowest: RGB, one pixel for each level.

    As opaque as over an image, here over a middling grey.
    """
    colours = find_colours(style.colormap, scale.signed, style.opacity)
    alpha = np.full(LEVELS, 255.0) if style.layout == "map" else colours.alpha.astype(np.float64)
    mixed = np.rint(GREY + (colours.palette - float(GREY)) * (alpha / 255)[:, None]).astype(np.uint8)
    return Image.fromarray(mixed[::-1, None].copy())
