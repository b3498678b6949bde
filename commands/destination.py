"""The files that explain writes: where they go, what they are called, and what they say of themselves."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands import display

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.runtime import Explanation

NAME_BYTES = 240  # of a file name, without what makes it a new one: most file systems take 255
ARTIFACT_BYTES = 80  # of it for the artifact's name


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
            display.save(image, about, self.folder / self.places.get(picture, Path()), self._name(picture, what))
            for image, about, what in self._images(answer)
        ]

    def _images(self, answer: dict[str, list["Explanation"]]) -> Iterator[tuple["Image.Image", dict[str, str], str]]:
        """Each picture to write, what it shows, and the end of its name."""
        from onnxplain.runtime import comparison_sheet

        if self.sheet:
            labels = [item.label for item in next(iter(answer.values()))]
            yield comparison_sheet(answer), self._about(", ".join(answer), "; ".join(labels)), "sheet"
            return
        for method, items in answer.items():
            for item in items:
                name = f"{method}.{display.slug(item.label) or f'class-{item.target}'}"
                yield item.overlay(), self._about(method, item.label), name

    def _about(self, method: str, label: str) -> dict[str, str]:
        return {"Model": self.model, "Method": method, "Class": label}

    def _name(self, picture: Path, what: str) -> str:
        """Of a file about the picture, without its suffix; names are cut that are longer than file systems take."""
        rest = f"{_cut(self.artifact.stem, ARTIFACT_BYTES)}.{what}"
        return f"{_cut(picture.name, NAME_BYTES - len(os.fsencode(rest)))}.{rest}"


def _cut(name: str, length: int) -> str:
    """The name, or as much of its beginning as has that many bytes."""
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name
