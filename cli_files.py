"""The files that explain writes: where they go, what they are called, and how they are told from other pictures."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxplain import cli_output
from onnxplain.cli_text import shown

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.runtime import Explanation

NAME_BYTES = 240  # of a file name, without what makes it a new one: most file systems take 255
ARTIFACT_BYTES = 80  # of it for the artifact's name
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAKER = ("Software", "onnxplain")  # a text of a PNG file: its keyword and what it says
CHUNKS = 100  # of a PNG file that are looked through for it; there are but a few before the pixels


@dataclass(frozen=True)
class Signed:
    """A picture that says in its file who made it and what it shows; saved as Pillow's pictures are."""

    image: "Image.Image"
    about: Mapping[str, str]

    def save(self, path: Path, **options: Any) -> None:
        """Write it as PNG."""
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        for keyword, text in (MAKER, *self.about.items()):
            texts.add_text(keyword, shown(text))
        self.image.save(path, pnginfo=texts, **options)


def is_ours(path: Path) -> bool:
    """Whether the file is a PNG that `Signed` has written; read as far as the pixels."""
    text = b"\0".join(part.encode() for part in MAKER)
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return False
        for _ in range(CHUNKS):
            length, kind = int.from_bytes(file.read(4)), file.read(4)
            if kind in (b"IDAT", b""):
                return False
            if kind == b"tEXt" and length == len(text) and file.read(length) == text:
                return True
            file.seek(4 + (0 if kind == b"tEXt" and length == len(text) else length), os.SEEK_CUR)
    return False


@dataclass(frozen=True)
class Destination:
    """Where the overlays of pictures go.

    `folder`: the one to write into. `places`: by picture, the folder below that; that one itself for all others.
    `artifact`: the file that explains, `model` what it says it is. `sheet`: one comparison sheet for each picture, not
    a file for each method and class.
    """

    folder: Path
    places: Mapping[Path, Path]
    artifact: Path
    model: str
    sheet: bool

    def draw(self, picture: Path, answer: dict[str, list["Explanation"]]) -> list[Path]:
        """Write what is to be shown of the picture, and say in which files: method by method, and by class."""
        return [
            cli_output.save(image, self.folder / self.places.get(picture, Path()), self._name(picture, what))
            for image, what in self._images(answer)
        ]

    def _images(self, answer: dict[str, list["Explanation"]]) -> Iterator[tuple[Any, str]]:
        """Each picture to write, and the end of its name."""
        from onnxplain.runtime import comparison_sheet

        if self.sheet:
            labels = [item.label for item in next(iter(answer.values()))]
            yield self._signed(comparison_sheet(answer), ", ".join(answer), "; ".join(labels)), "sheet"
            return
        for method, items in answer.items():
            for item in items:
                name = f"{method}.{cli_output.slug(item.label) or f'class-{item.target}'}"
                yield self._signed(item.overlay(), method, item.label), name

    def _signed(self, image: "Image.Image", method: str, label: str) -> Signed:
        return Signed(image, {"Model": self.model, "Method": method, "Class": label})

    def _name(self, picture: Path, what: str) -> str:
        """Of a file about the picture, without its suffix; names are cut that are longer than file systems take."""
        rest = f"{_cut(self.artifact.stem, ARTIFACT_BYTES)}.{what}"
        return f"{_cut(picture.name, NAME_BYTES - len(os.fsencode(rest)))}.{rest}"


def _cut(name: str, length: int) -> str:
    """The name, or as much of its beginning as has that many bytes."""
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name
