"""The signature of onnxplain in the PNG files that it writes, which tells them from images to explain or learn from."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins
MAKER = ("Software", "onnxplain")  # the text: its keyword and what it says
CHUNKS = 100  # of a PNG file that are looked through for it; there are but a few before the pixels


def signed(about: Mapping[str, str]) -> PngInfo:
    """The texts of a PNG file: who made it, and what it shows. about: by keyword, text without lone surrogates."""
    texts = PngInfo()
    for keyword, text in (MAKER, *about.items()):
        texts.add_text(keyword, text)
    return texts


def is_signed(path: Path) -> bool:
    """Whether the file is a PNG with that text; read as far as the pixels."""
    text = b"\0".join(part.encode() for part in MAKER)
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(PNG)) != PNG:
            return False
        for _ in range(CHUNKS):
            length, kind = int.from_bytes(file.read(4)), file.read(4)
            if kind in (b"IDAT", b""):
                return False
            if kind == b"tEXt" and length == len(text) and file.read(length) == text:
                return True
            file.seek(4 + (0 if kind == b"tEXt" and length == len(text) else length), os.SEEK_CUR)
    return False
