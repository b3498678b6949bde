"""Several methods' heatmaps of one picture side by side, as one picture."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .geometry import resize
from .result import Explanation

CELL = 224  # the longer side of every picture on the sheet, in pixels
GAP, MARGIN = 12, 24
FONT, SMALL = 17, 14  # of the names and titles; of the note
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
    step = max(width, *(math.ceil(font.getlength(name)) for name in names)) + GAP
    header, title = FONT + GAP, FONT + 2 * GAP
    pitch = title + height + GAP
    size = (
        2 * MARGIN + len(names) * step - GAP,
        2 * MARGIN + header + len(rows) * pitch + GAP + SMALL,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN + column * step for column in range(len(names))]
    for left, name in zip(lefts, names, strict=True):
        draw.text((left, MARGIN + FONT), name, INK, font, anchor="ls")
    for number, row in enumerate(rows):
        top = MARGIN + header + number * pitch
        draw.line([(MARGIN, top), (size[0] - MARGIN - 1, top)], RULE)
        first = row[0]
        text = _title(first, font, size[0] - 2 * MARGIN)
        draw.text((MARGIN, top + GAP + FONT), text, INK, font, anchor="ls")
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


def _title(explanation: Explanation, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A row's title: the label, in letters that the font has and shortened to fit, the class and its score."""
    tail = f"  (class {explanation.target}, score {explanation.score:.2f})"
    letters = unicodedata.normalize("NFKD", explanation.label).encode("ascii", "ignore").decode()
    label = " ".join(letters.split())
    texts = [label + tail, *(f"{label[:end]}…{tail}" for end in range(len(label) - 1, -1, -1))]
    return next((text for text in texts if font.getlength(text) <= width), texts[-1])
