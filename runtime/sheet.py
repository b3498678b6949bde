"""Several methods' heatmaps of one picture side by side, as one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .geometry import resize
from .result import Explanation

CELL = 224  # the longer side of every picture on the sheet, in pixels
GAP, MARGIN = 12, 24
FONT, SMALL = 17, 14  # of the rows' titles; of the columns' names and the note
PAPER, INK, FAINT, RULE = "#ffffff", "#1f2328", "#6a737d", "#d0d7de"
NOTE = "Every heatmap is scaled from its own minimum to its own maximum."


def comparison_sheet(explanations: Mapping[str, Sequence[Explanation]]) -> Image.Image:
    """One row for each target, one column for the bare picture and for each method, with labels; RGB.

    `explanations`: for each method's name those of the same targets of one picture, in the same order, as
    `Explainer.explain_all` gives them for a list of targets.
    """
    rows = list(zip(*explanations.values(), strict=True))
    names = ["picture", *explanations]
    font, small = ImageFont.load_default(size=FONT), ImageFont.load_default(size=SMALL)
    width, height = _cell_size(rows[0][0].image.size)
    step = max(width, *(round(_wrapped_width(name, small)) for name in names)) + GAP
    header, title = 2 * (SMALL + 4) + GAP, FONT + 2 * GAP
    size = (
        2 * MARGIN + len(names) * step - GAP,
        2 * MARGIN + header + len(rows) * (title + height) + GAP + SMALL,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN + column * step for column in range(len(names))]
    for left, name in zip(lefts, names, strict=True):
        draw.multiline_text((left, MARGIN), _wrapped(name), INK, small, spacing=4)
    for number, row in enumerate(rows):
        top = MARGIN + header + number * (title + height)
        draw.line([(MARGIN, top), (size[0] - MARGIN - 1, top)], RULE)
        first = row[0]
        draw.text((MARGIN, top + GAP), _title(first, font, size[0] - 2 * MARGIN), INK, font, anchor="lt")
        thumbnail = first.image.resize((width, height), Image.Resampling.LANCZOS)
        pictures = [thumbnail, *(_overlay(item, thumbnail) for item in row)]
        for left, picture in zip(lefts, pictures, strict=True):
            sheet.paste(picture, (left, top + title))
    draw.text((MARGIN, size[1] - MARGIN), NOTE, FAINT, small, anchor="ls")
    return sheet


def _cell_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a picture whose longer side becomes `CELL`."""
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _overlay(explanation: Explanation, thumbnail: Image.Image) -> Image.Image:
    """The overlay in the thumbnail's size: colours are cheaper to find there than in a photograph's."""
    heatmap = resize(explanation.heatmap, (thumbnail.height, thumbnail.width)).astype(np.float32)
    return replace(explanation, heatmap=heatmap, image=thumbnail).overlay()


def _wrapped(name: str) -> str:
    """A method's name on two lines, broken at the underscore nearest to its middle."""
    places = [place for place, letter in enumerate(name) if letter == "_"]
    if not places:
        return name
    middle = min(places, key=lambda place: abs(place - len(name) / 2))
    return f"{name[: middle + 1]}\n{name[middle + 1 :]}"


def _wrapped_width(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    return max(font.getbbox(line)[2] for line in _wrapped(name).split("\n"))


def _title(explanation: Explanation, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A row's title: the label, shortened to fit, the class and its score."""
    tail = f"  (class {explanation.target}, score {explanation.score:.2f})"
    label = " ".join(explanation.label.split())
    texts = [label + tail, *(f"{label[:end]}…{tail}" for end in range(len(label) - 1, -1, -1))]
    return next((text for text in texts if font.getlength(text) <= width), texts[-1])
