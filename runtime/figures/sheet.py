"""Several explanations on one sheet, to compare them: rows of cells, each with a name above it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from onnxplain.contract.errors import OnnxplainError

from .canvas import FAINT, INK, RULE, Box, Canvas, Raster, Text, plain, shortened, text_width, wrapped
from .drawable import Drawable
from .figure import GAP, SMALL, TITLE, colour_bar, fitted, is_cropped, number, resized
from .formats import to_image
from .overlay import draw_map, draw_overlay
from .scale import Scale, find_scale, shared_scales
from .style import Style, as_style

if TYPE_CHECKING:
    from ..explanation import Explanation

CELL = 224  # the longer side of every image on the sheet, in pixels
COLUMNS = 7  # cells on a line, at most
MARGIN = 24
LINE = SMALL + 4  # from line to line of small text
MOST_PIXELS = 2**27  # of a sheet
LEGEND = (96, 8)  # width and height of a colour bar in the legend
SELF, SHARED = "Every map's colours span its own values.", "The colours of all maps span the same values."
BOTH = "The colours of all maps span the same values, of signed maps on both sides of 0."
PIXELS = "Maps of single pixels are averaged over half a patch."
UNSEEN = "What the model did not see of the image is grey."


@dataclass(frozen=True)
class Cell:
    """A name, and below it a map of the row's image, the image itself, or why there is neither."""

    name: str
    content: Drawable | Image.Image | str


@dataclass(frozen=True)
class Row:
    """What stands under one title: the image, and the cells beside it, on several lines if they are many.

    Attributes:
        title: Such as the class.
        about: What is said of it beside, such as its probability.
        image: The image, RGB.
        cells: One for each explanation.
    """

    title: str
    about: str
    image: Image.Image
    cells: Sequence[Cell]


def comparison_sheet(
    explanations: "Mapping[str, Explanation | Sequence[Explanation]]", style: Style | None = None
) -> Image.Image:
    """Draw several methods' maps of one image side by side.

    Args:
        explanations: By the method's name its explanation, or those of the same targets in the same order, as
            `Explainer.explain_all` gives them.
        style: How; of its layouts `map` shows the maps alone, the others over the image.

    Returns:
        RGB: for each target a row with the image and each method's map, under their names.

    Raises:
        OnnxplainError: If there are no explanations, or not as many of each method.
    """
    from ..explanation import Explanation

    if not isinstance(explanations, Mapping):
        raise OnnxplainError(f"a sheet needs explanations by their methods' names, got {type(explanations).__name__}")
    each = {name: items if isinstance(items, Sequence) else [items] for name, items in explanations.items()}
    for name, items in each.items():
        if not isinstance(name, str) or not all(isinstance(item, Explanation) for item in items):
            raise OnnxplainError(f"a sheet needs explanations by their methods' names, got {name!r}: {items!r}")
    counts = set(map(len, each.values()))
    if len(counts) != 1 or 0 in counts:
        raise OnnxplainError("a sheet needs explanations, as many by each method as by the others")
    return to_image(sheet_of(rows_of(each), as_style(style)))


def rows_of(explanations: Mapping[str, Sequence["Explanation"]]) -> list[Row]:
    """A row for each target, with a cell for each method."""
    rows = []
    for items in zip(*explanations.values(), strict=True):
        first = items[0]
        title = plain(first.label) or f"class {first.target}"
        cells = [Cell(method_in_words(key, item), item) for key, item in zip(explanations, items, strict=True)]
        rows.append(Row(title, f"{first.probability:.1%}, {plain(first.model)}", first.image, cells))
    return rows


def method_in_words(key: str, explanation: "Explanation") -> str:
    """The method with the parameters that its key has, else with those that are not the defaults."""
    name, has_parameters, parameters = key.partition(":")
    return f"{name} ({parameters.replace(',', ', ')})" if has_parameters else explanation.title


def sheet_of(rows: Sequence[Row], style: Style, notes: Sequence[str] = ()) -> Canvas:
    """The rows below each other, and a legend.

    Args:
        rows: At least one, each with at least one cell.
        style: As for `comparison_sheet`; its `max_size` is the longer side of an image, 224 pixels if it is None.
        notes: What to say below, beside what is true of the maps.
    """
    shown = [cell.content for row in rows for cell in row.cells if not isinstance(cell.content, str | Image.Image)]
    scales = shared_scales(shown) if style.scale == "shared" else [find_scale(item) for item in shown]
    scale_of = {id(item): scale for item, scale in zip(shown, scales, strict=True)}
    most = style.max_size or CELL
    sizes = [fitted(row.image.size, most, most) for row in rows]
    count = 1 + max(len(row.cells) for row in rows)
    lines = math.ceil(count / COLUMNS)
    columns = math.ceil(count / lines)
    words = [word for row in rows for cell in row.cells for word in cell.name.split()]
    step = math.ceil(max(*(width for width, _ in sizes), *(text_width(word, SMALL) for word in words))) + GAP
    canvas_width = 2 * MARGIN + columns * step - GAP
    if canvas_width * lines * sum(height for _, height in sizes) > MOST_PIXELS:
        raise OnnxplainError(
            f"a sheet of {columns} x {lines * len(rows)} images of {most} pixels would be too large; "
            "give a smaller `max_size`, or fewer images"
        )
    items: list[Text | Raster | Box] = []
    top = MARGIN
    for number_of_row, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        if number_of_row:
            items.append(Box(MARGIN, top, canvas_width - MARGIN, top + 1, RULE))
            top += GAP
        items += _row_title(row, top, canvas_width - 2 * MARGIN)
        top += TITLE + GAP
        cells = [Cell("image", row.image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)), *row.cells]
        for start in range(0, len(cells), columns):
            line = cells[start : start + columns]
            names = [wrapped(cell.name, SMALL, step - GAP) for cell in line]
            height = max(map(len, names)) * LINE
            for column, (cell, name) in enumerate(zip(line, names, strict=True)):
                left = MARGIN + column * step
                colour = FAINT if start + column == 0 else INK
                first = top + height - len(name) * LINE  # names stand on their images
                items += [Text(left, first + at * LINE + SMALL, text, SMALL, colour) for at, text in enumerate(name)]
                items += _content(cell, size, left, top + height, style, scale_of)
            top += height + size[1] + GAP
    if shown:
        shared = BOTH if len({item.signed for item in shown}) > 1 else SHARED
        notes = [shared if style.scale == "shared" else SELF, *notes]
    if any(item.pixel_level for item in shown):
        notes = [*notes, PIXELS]
    if any(is_cropped(item.image.size, item.placement) for item in shown):
        notes = [*notes, UNSEEN]
    legend = _legend([scale for scale in scales if scale], style, notes, top, canvas_width - 2 * MARGIN)
    bottom = max((item.y for item in legend if isinstance(item, Text)), default=top)
    return Canvas(canvas_width, round(bottom) + MARGIN, [*items, *legend])


def _row_title(row: Row, top: int, width: int) -> list[Text]:
    title = shortened(row.title, TITLE, width - text_width(f"  {row.about}", SMALL))
    after = MARGIN + text_width(f"{title}  ", TITLE)
    return [Text(MARGIN, top + TITLE, title, TITLE), Text(after, top + TITLE, row.about, SMALL, FAINT)]


def _content(
    cell: "Cell", size: tuple[int, int], left: int, top: int, style: Style, scale_of: Mapping[int, Scale | None]
) -> Iterable[Text | Raster]:
    content = cell.content
    if isinstance(content, Image.Image):
        return [Raster(left, top, content)]
    if isinstance(content, str):
        lines = wrapped(content, SMALL, size[0])
        return [Text(left, top + SMALL + at * LINE, text, SMALL, FAINT) for at, text in enumerate(lines)]
    draw = draw_map if style.layout == "map" else draw_overlay
    return [Raster(left, top, draw(resized(content, size), style, scale_of[id(content)]))]


def _legend(
    scales: Sequence[Scale], style: Style, notes: Sequence[str], top: int, width: int
) -> list[Text | Raster | Box]:
    """A colour bar for each kind of map on the sheet, and what holds for all."""
    items: list[Text | Raster | Box] = []
    left, baseline = float(MARGIN), top + SMALL
    for signed in (False, True):
        alike = [scale for scale in scales if scale.signed is signed]
        if not alike:
            continue
        ends = ("against the class", "for it") if signed else ("low", "high")
        if style.scale == "shared":
            numbers = number(alike[0].low, alike[0]), number(alike[0].high, alike[0])
            ends = (f"{numbers[0]}, {ends[0]}", f"{numbers[1]}, {ends[1]}") if signed else numbers
        bar = colour_bar(alike[0], style).rotate(-90, expand=True).resize(LEGEND, Image.Resampling.BILINEAR)
        items.append(Text(left, baseline, ends[0], SMALL, FAINT))
        left += text_width(ends[0], SMALL) + 6
        items.append(Raster(round(left), baseline - LEGEND[1], bar))
        left += LEGEND[0] + 6
        items.append(Text(left, baseline, ends[1], SMALL, FAINT))
        left += text_width(ends[1], SMALL) + 2 * GAP
    if items:
        baseline += LINE + 4
    for at, text in enumerate(wrapped(" ".join(notes), SMALL, width)):
        items.append(Text(MARGIN, baseline + at * LINE, text, SMALL, FAINT))
    return items
