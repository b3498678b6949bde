"""A figure as a list of what is on it, in pixels from the upper left corner; formats.py writes it."""

import io
import unicodedata
from dataclasses import dataclass, field
from functools import cache

from PIL import Image, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER, INK, FAINT, RULE = "#ffffff", "#1f2328", "#6a737d", "#d0d7de"
ELLIPSIS = "…"
LONGEST = 500  # letters of a text that are measured: more than the widest figure shows


@dataclass(frozen=True)
class Text:
    """One line.

    Attributes:
        x: Of the anchor.
        y: Of the baseline.
        text: In printable letters.
        size: Of the font, in pixels.
        colour: Such as #1f2328.
        anchor: What of the line is at x: `start`, `middle` or `end`.
    """

    x: float
    y: float
    text: str
    size: int
    colour: str = INK
    anchor: str = "start"


@dataclass(frozen=True)
class Raster:
    """An RGB image, each of whose pixels is one of the figure's; x and y are of its upper left corner."""

    x: int
    y: int
    image: Image.Image


@dataclass(frozen=True)
class Box:
    """The outline of a rectangle, `width` pixels wide, drawn inside of it; a line where it is no wider than that."""

    left: int
    top: int
    right: int
    bottom: int
    colour: str = RULE
    width: int = 1

    @property
    def is_line(self) -> bool:
        """Whether there is nothing inside of the outline: what is drawn is then a filled rectangle."""
        return min(self.right - self.left, self.bottom - self.top) <= self.width


@dataclass(frozen=True)
class Canvas:
    """A figure.

    Attributes:
        width: In pixels.
        height: In pixels.
        items: What is on it; the later ones cover the earlier ones.
    """

    width: int
    height: int
    items: list[Text | Raster | Box] = field(default_factory=list)

    def add(self, *items: Text | Raster | Box) -> None:
        """Put these over what is there."""
        self.items.extend(items)


@cache
def font(size: int) -> Font:
    """The font that Pillow brings."""
    return ImageFont.load_default(size=size)


def font_file() -> bytes:
    """The font in the format TrueType."""
    file = ImageFont.load_default(size=10).path  # type: ignore[union-attr]
    assert isinstance(file, io.BytesIO)
    return file.getvalue()


def text_width(text: str, size: int) -> float:
    """In pixels."""
    return float(font(size).getlength(text))


LETTERS = str.maketrans({
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i",
    "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "×": "x",
})  # fmt: skip
"""Those of Latin alphabets that have no accent which could be left out, and marks of print."""


def plain(text: str) -> str:
    """The text in letters that the font has: without their accents, and with ? for any other; empty if none is left."""
    letters = []
    for letter in unicodedata.normalize("NFKD", text[:LONGEST].translate(LETTERS)):
        if letter.isascii():
            letters.append(letter if letter.isprintable() else " ")
        elif unicodedata.category(letter)[0] != "M":  # accents
            letters.append(" " if letter.isspace() or unicodedata.category(letter)[0] == "C" else "?")
    drawn = " ".join("".join(letters).split())
    return drawn if any(map(str.isalnum, drawn)) or text.isascii() else ""


def shortened(text: str, size: int, width: float) -> str:
    """The text, or as much of its beginning as fits into the width, with an ellipsis."""
    texts = (text, *(f"{text[:end].rstrip()}{ELLIPSIS}" for end in range(len(text) - 1, 0, -1)))
    return next((one for one in texts if text_width(one, size) <= width), ELLIPSIS if text else "")


def wrapped(text: str, size: int, width: float) -> list[str]:
    """The text in lines of at most that width, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
