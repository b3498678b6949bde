"""The signature of onnxplain in the images that it writes, which tells them from images to explain or learn from."""

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

MAKER = ("Software", "onnxplain")  # the text: its keyword and what it says
SOFTWARE, DESCRIPTION = 0x0131, 0x010E  # the keys of EXIF for that text, and for what the image shows
PNG = b"\x89PNG\r\n\x1a\n"  # how files begin
JPEG = b"\xff\xd8\xff"
GIF = b"GIF8"
RIFF = b"RIFF"
PARTS = 1000  # of a file that are looked through for the text; in a WebP the frames of an animation stand before it
EXIF_BYTES = 65536  # of a part that holds it
MOST_BYTES = 8192  # of what an image shows, as EXIF takes no more than 64 KiB


def about_line(about: Mapping[str, str]) -> str:
    """What an image shows, in one line; cut if it is long."""
    line = "; ".join(f"{keyword}: {text}" for keyword, text in about.items())
    return line.encode()[:MOST_BYTES].decode(errors="ignore")


def image_options(format: str, about: Mapping[str, str]) -> dict[str, Any]:
    """The options of Pillow's `save` that write the signature, and what the image shows.

    Args:
        format: One of png, jpg, webp and gif.
        about: By keyword, text without lone surrogates.
    """
    if format == "png":
        texts = PngInfo()
        for keyword, text in (MAKER, *about.items()):
            texts.add_text(keyword, text)
        return {"pnginfo": texts}
    if format == "gif":
        return {"comment": f"{'='.join(MAKER)}; {about_line(about)}".encode()}
    exif = Image.Exif()
    exif[SOFTWARE], exif[DESCRIPTION] = MAKER[1], about_line(about).encode()  # text would be written in ASCII
    return {"exif": exif}


def is_signed(path: Path) -> bool:
    """Whether the file is an image with the signature; the pixels are not read."""
    with suppress(OSError), path.open("rb") as file:
        begin = file.read(12)
        for start, reader in _READERS.items():
            if begin.startswith(start):
                return reader(file)
    return False


def _in_png(file: IO[bytes]) -> bool:
    text = b"\0".join(part.encode() for part in MAKER)
    file.seek(len(PNG))
    for _ in range(PARTS):
        length, kind = int.from_bytes(file.read(4)), file.read(4)
        if kind in (b"IDAT", b""):
            return False
        if kind == b"tEXt" and length == len(text):
            if file.read(length) == text:
                return True
            length = 0
        file.seek(4 + length, os.SEEK_CUR)
    return False


def _in_jpeg(file: IO[bytes]) -> bool:
    file.seek(2)
    for _ in range(PARTS):
        marker, length = file.read(2), int.from_bytes(file.read(2)) - 2
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] == 0xDA or length < 0:  # 0xDA: the pixels follow
            return False
        if marker[1] == 0xE1:
            return _in_exif(file.read(length))
        file.seek(length, os.SEEK_CUR)
    return False


def _in_webp(file: IO[bytes]) -> bool:
    for _ in range(PARTS):
        kind, length = file.read(4), int.from_bytes(file.read(4), "little")
        if len(kind) < 4:
            return False
        if kind == b"EXIF":
            return _in_exif(file.read(min(length, EXIF_BYTES)))
        file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _in_gif(file: IO[bytes]) -> bool:
    file.seek(0)
    return b"=".join(part.encode() for part in MAKER) + b";" in file.read(4096)  # Pillow writes comments first


def _in_exif(data: bytes) -> bool:
    exif = Image.Exif()
    with suppress(Exception), warnings.catch_warnings():  # of damaged files; what is raised differs
        warnings.simplefilter("ignore")
        exif.load(data)
        return exif.get(SOFTWARE) == MAKER[1]
    return False


_READERS: dict[bytes, Callable[[IO[bytes]], bool]] = {PNG: _in_png, JPEG: _in_jpeg, GIF: _in_gif, RIFF: _in_webp}
