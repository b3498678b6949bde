"""Several methods' heatmaps of one image, on one sheet to compare them."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace

from PIL import Image, ImageDraw, ImageFont

from .explanation import Explanation

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

CELL = 224  # the longer side of every image on the sheet, in pixels
COLUMNS = 7  # cells on a line, at most
GAP, MARGIN = 12, 24
LABEL = 500  # letters of a label that are measured: more than the widest sheet shows
FONT, SMALL = 18, 14  # of the titles; of the names and the note
PAPER, INK, FAINT, RULE = "#ffffff", "#1f2328", "#6a737d", "#d0d7de"
NOTE = (
    "Every heatmap is scaled by itself: from its minimum, or from 0 where it has negative values, to its maximum, "
    "maps of single pixels after averaging over half a patch. What the model did not see of the image is grey."
)


def comparison_sheet(explanations: Mapping[str, Sequence[Explanation]]) -> Image.Image:
    """Draw several methods' heatmaps of one image side by side.

    Args:
        explanations: By the method's name those of the same targets, in the same order, as `Explainer.explain_all`
            gives them for a list of targets.

    Returns:
        RGB: for each target a block with the image and each method's heatmap, under their names.
    """
    blocks = list(zip(*explanations.values(), strict=True))
    names = ["image", *explanations]
    font, small = ImageFont.load_default(size=FONT), ImageFont.load_default(size=SMALL)
    width, height = _cell_size(blocks[0][0].image.size)
    step = max(width, *(math.ceil(small.getlength(name)) for name in names)) + GAP
    lines = math.ceil(len(names) / COLUMNS)
    columns = math.ceil(len(names) / lines)
    title, pitch = FONT + 2 * GAP, SMALL + GAP + height + GAP
    block = title + lines * pitch + GAP
    notes = _wrapped(NOTE, small, columns * step - GAP)
    size = (2 * MARGIN + columns * step - GAP, 2 * MARGIN + len(blocks) * block + len(notes) * (SMALL + GAP // 2))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, items in enumerate(blocks):
        top = MARGIN + number * block
        if number > 0:
            draw.line([(MARGIN, top - GAP), (size[0] - MARGIN - 1, top - GAP)], RULE)
        text = _title(items[0], font, size[0] - 2 * MARGIN)
        draw.text((MARGIN, top + FONT), text, INK, font, anchor="ls")
        thumbnail = items[0].image.resize((width, height), Image.Resampling.LANCZOS)
        cells = [thumbnail, *(_overlay(item, thumbnail) for item in items)]
        for place, (name, cell) in enumerate(zip(names, cells, strict=True)):
            line, column = divmod(place, columns)
            left, upper = MARGIN + column * step, top + title + line * pitch
            draw.text((left, upper + SMALL), name, FAINT if place == 0 else INK, small, anchor="ls")
            sheet.paste(cell, (left, upper + SMALL + GAP // 2))
    for number, text in enumerate(reversed(notes)):
        draw.text((MARGIN, size[1] - MARGIN - number * (SMALL + GAP // 2)), text, FAINT, small, anchor="ls")
    return sheet


def _cell_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of an image whose longer side becomes `CELL`."""
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _overlay(explanation: Explanation, thumbnail: Image.Image) -> Image.Image:
    """The overlay in the thumbnail's size: colours are cheaper to find there than in a photograph's."""
    placement = replace(explanation.placement, original=(thumbnail.height, thumbnail.width))
    return replace(explanation, image=thumbnail, placement=placement).overlay()


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most that width, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _title(explanation: Explanation, font: Font, width: int) -> str:
    """A block's title: the label, in letters that the font has and shortened to fit, the class and its score."""
    tail = f"  (class {explanation.target}, score {explanation.score:.2f})"
    letters = unicodedata.normalize("NFKD", explanation.label[:LABEL]).encode("ascii", "ignore").decode()
    label = " ".join("".join(letter if letter.isprintable() else " " for letter in letters).split())
    texts = [label + tail, *(f"{label[:end]}…{tail}" for end in range(len(label) - 1, -1, -1))]
    return next((text for text in texts if font.getlength(text) <= width), texts[-1])
