"""Where the files go that explain writes about an image, and their names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NAME_BYTES = 240  # of a name without its suffix and what makes it a new one: most file systems take 255
ARTIFACT_BYTES = 80  # of it for the artifact's name
ENDING_BYTES = 140  # and for what stands behind that, such as a method with parameters, and a class


@dataclass(frozen=True)
class Destination:
    """The folders and names of files about images.

    Attributes:
        folder: The folder for all of them.
        places: By image, the folder within that; files about other images go into `folder` itself.
        artifact: The file that explains.
    """

    folder: Path
    places: Mapping[Path, Path]
    artifact: Path

    def folder_of(self, image: Path) -> Path:
        """The folder for files about the image."""
        return self.folder / self.places.get(image, Path())

    def name(self, image: Path, ending: str) -> str:
        """The name of a file about the image, without its suffix, cut where it is longer than file systems take."""
        rest = f"{_cut(self.artifact.stem, ARTIFACT_BYTES)}.{_cut(ending, ENDING_BYTES)}"
        return f"{_cut(image.name, NAME_BYTES - len(os.fsencode(rest)))}.{rest}"


def _cut(name: str, length: int) -> str:
    """The name, or as much of its beginning as has that many bytes."""
    while len(os.fsencode(name)) > length:
        name = name[:-1]
    return name
