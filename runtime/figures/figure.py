"""One explanation as a figure: the picture and the map over it, under a title, beside a colour bar."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .canvas import FAINT, Box, Canvas, Picture, Text, plain, shortened, text_width
from .colours import LEVELS, find_colours
from .overlay import GREY, draw_map, draw_overlay
from .scale import Scale, find_scale
from .style import Style

if TYPE_CHECKING:
    from ..explanation import Explanation

LEAST, MOST = 384, 1600  # pixels of the picture's longer side in a figure
MARGIN, GAP = 16, 12
TITLE, SMALL = 18, 13  # sizes of the font: of the class, and of all else
LEADING = 24  # from line to line
DOT = "·"
NOTHING = 0.002  # share of the scale
BAR, TICK = 10, 4  # width of the colour bar; from the bar to its numbers
FRAMES = ("#ffffff", "#1f2328")  # around what the model saw: a light line and a dark one, to be seen on any picture


def figure_of(explanation: "Explanation", style: Style, scale: Scale | None = None) -> Canvas | Image.Image:
    """Draw an explanation.

    Args:
        explanation: What to draw.
        style: How; its `scale` does not count.
        scale: What the colours span; None for what suits the map alone.

    Returns:
        A canvas; for the layout `bare` the picture itself.
    """
    scale = scale or find_scale(explanation)
    if style.layout == "bare":
        size = fitted(explanation.image.size, 1, style.max_size or max(explanation.image.size))
        return draw_overlay(resized(explanation, size), style, scale)
    shown = resized(explanation, fitted(explanation.image.size, LEAST, style.max_size or MOST))
    panels = [draw_map(shown, style, scale) if style.layout == "map" else draw_overlay(shown, style, scale)]
    if style.layout == "side":
        panels.insert(0, shown.image)
    width, height = shown.image.size
    inner = len(panels) * (width + GAP) - GAP
    marks = _marks(scale)
    bar = GAP + BAR + TICK + round(max((text_width(text, SMALL) for _, text in marks), default=0))
    title = _title(shown, inner)
    top = MARGIN + LEADING * len(title) + GAP // 2
    canvas = Canvas(2 * MARGIN + inner + (bar if marks else 0), top + height + MARGIN)
    for line, words in enumerate(title):
        canvas.add(*(replace(word, x=MARGIN + word.x, y=MARGIN + TITLE + line * LEADING) for word in words))
    for place, panel in enumerate(panels):
        left = MARGIN + place * (width + GAP)
        canvas.add(Picture(left, top, panel), *_frame(shown, left, top))
    if scale is not None:
        canvas.add(*_bar(scale, style, MARGIN + inner + GAP, top, height))
    return canvas


def resized(explanation: "Explanation", size: tuple[int, int]) -> "Explanation":
    """The explanation of the picture in another size, (width, height), as it is drawn: colours are found there."""
    if size == explanation.image.size:
        return explanation
    image = explanation.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return replace(explanation, image=image, placement=replace(explanation.placement, original=(size[1], size[0])))


def fitted(size: tuple[int, int], least: int, most: int) -> tuple[int, int]:
    """The size at which the longer side is within these bounds; where they contradict, the upper one counts."""
    longer = max(size)
    scale = min(max(longer, least), most) / longer
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _title(explanation: "Explanation", width: int) -> list[list[Text]]:
    """One line, or two if it is too long: class and probability; method and model."""
    share = f"{explanation.probability:.1%}"
    room = width - text_width(f"  {share}", SMALL)
    label = shortened(plain(explanation.label) or f"class {explanation.target}", TITLE, room)
    first = [Text(0, 0, label, TITLE), Text(text_width(f"{label}  ", TITLE), 0, share, SMALL, FAINT)]
    end = first[1].x + text_width(share, SMALL)
    about = f"{plain(explanation.title)} {DOT} {plain(explanation.model)}"
    if end + 2 * GAP + text_width(about, SMALL) <= width:
        return [[*first, Text(width, 0, about, SMALL, FAINT, "end")]]
    return [first, [Text(0, 0, shortened(about, SMALL, width), SMALL, FAINT)]]


def _frame(explanation: "Explanation", left: int, top: int) -> list[Box]:
    """Two lines around what the model saw, if it is not the whole picture."""
    (rows, columns), (width, height) = explanation.placement.seen, explanation.image.size
    if (rows.start, rows.stop, columns.start, columns.stop) == (0, height, 0, width):
        return []
    boxes = []
    for inset, colour in enumerate(FRAMES):
        boxes.append(
            Box(
                left + columns.start + inset, top + rows.start + inset,
                left + columns.stop - inset, top + rows.stop - inset, colour,
            )
        )  # fmt: skip
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


def _bar(scale: Scale, style: Style, left: int, top: int, height: int) -> list[Picture | Box | Text]:
    """The colour bar with its numbers, its opacity over a middling grey as it is over the picture."""
    bar = Picture(left, top, colour_bar(scale, style).resize((BAR, height), Image.Resampling.BILINEAR))
    numbers: list[Picture | Box | Text] = []
    for share, text in _marks(scale):
        baseline = top + SMALL * 0.36 + min(max(share * height, SMALL * 0.4), height - SMALL * 0.4)
        numbers.append(Text(left + BAR + TICK, round(baseline), text, SMALL, FAINT))
    return [bar, *numbers]


def colour_bar(scale: Scale, style: Style) -> Image.Image:
    """The colours from the highest, at the top, to the lowest: RGB, one pixel for each level."""
    opacity = 1.0 if style.layout == "map" else style.opacity
    colours = find_colours(style.colormap, scale.signed, opacity)
    alpha = np.full(LEVELS, 255.0) if style.layout == "map" else colours.alpha.astype(np.float64)
    mixed = np.rint(GREY + (colours.palette - float(GREY)) * (alpha / 255)[:, None]).astype(np.uint8)
    return Image.fromarray(mixed[::-1, None].copy())
