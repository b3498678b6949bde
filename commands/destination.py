"""The files that explain writes: their folders, names, and the texts in them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands import display

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.runtime import Explanation, Style
    from onnxplain.runtime.figures.canvas import Canvas

NAME_BYTES = 240  # of a file name, without what makes it a new one: most file systems take 255
ARTIFACT_BYTES = 80  # of it for the artifact's name


@dataclass(frozen=True)
class Destination:
    """Where figures are written.

    Attributes:
        folder: The folder for all of them.
        places: By image, the folder within that; images that are not in it have their figures in `folder` itself.
        artifact: The file that explains.
        model: Its model's name.
        sheet: Whether each image has one comparison sheet, instead of a file for each method and class.
        style: How figures are drawn.
        format: In which format they are written.
    """

    folder: Path
    places: Mapping[Path, Path]
    artifact: Path
    model: str
    sheet: bool
    style: "Style"
    format: str

    def draw(self, image: Path, results: dict[str, list["Explanation"]]) -> list[Path]:
        """Write the figures of an image, or its sheet.

        Args:
            image: The image's name.
            results: Its explanations, by method.

        Returns:
            The files: method by method one for each class, or the sheet.
        """
        folder = self.folder / self.places.get(image, Path())
        return [
            display.save(figure, self.format, about, folder, file_name(image, self.artifact, ending))
            for figure, about, ending in self._drawings(results)
        ]

    def _drawings(
        self, results: dict[str, list["Explanation"]]
    ) -> Iterator[tuple["Canvas | Image.Image", dict[str, str], str]]:
        """Each figure or sheet, the texts about it, and the end of its file's name."""
        from onnxplain.runtime.figures.figure import figure_of
        from onnxplain.runtime.figures.scale import shared_scales
        from onnxplain.runtime.figures.sheet import rows_of, sheet_of

        if self.sheet:
            labels = [item.label for item in next(iter(results.values()))]
            yield sheet_of(rows_of(results), self.style), self._about(", ".join(results), "; ".join(labels)), "sheet"
            return
        every = [(method, item) for method, items in results.items() for item in items]
        shared = self.style.scale == "shared"
        scales = shared_scales(item for _, item in every) if shared else [None] * len(every)
        for (method, item), scale in zip(every, scales, strict=True):
            name = f"{method}.{display.slug(item.label) or f'class-{item.target}'}"
            yield figure_of(item, self.style, scale), self._about(method, item.label), name

    def _about(self, method: str, label: str) -> dict[str, str]:
        return {"Model": self.model, "Method": method, "Class": label}


def file_name(image: Path, artifact: Path, ending: str) -> str:
    """The name of a file about the image, without its suffix, cut where it is longer than file systems take."""
    rest = f"{_cut(artifact.stem, ARTIFACT_BYTES)}.{ending}"
    return f"{_cut(image.name, NAME_BYTES - len(os.fsencode(rest)))}.{rest}"


def _cut(name: str, length: int) -> str:
    """The name, or as much of its beginning as has that many bytes."""
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name
