"""The images that explain is given: files, and what is found in folders."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from onnxplain.commands.arguments import STDIN
from onnxplain.contract.errors import OnnxplainError


@dataclass
class Found:
    """The images to explain, and what was skipped.

    Attributes:
        images: Each image, with the folder for its figures, relative to the one for all figures.
        errors: Why folders cannot be read, or that there are no images in them.
        figures: How many files were skipped since onnxplain made them.
        folders: How many sub-folders were skipped.
    """

    images: dict[Path, Path] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    figures: int = 0
    folders: int = 0

    def skipped(self) -> list[str]:
        """What was skipped, in words."""
        lines = []
        if self.figures:
            lines.append(figures_skipped(self.figures))
        if self.folders:
            them = "it" if self.folders == 1 else "them"
            what = counted(self.folders, "sub-folder")
            lines.append(f"{what} {_was(self.folders)} skipped; --recursive takes the images in {them} too")
        return lines


def counted(number: int, what: str) -> str:
    """Such as 1 file, 2 files."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def figures_skipped(number: int) -> str:
    """That so many files were skipped since onnxplain made them."""
    return f"{counted(number, 'image')} that onnxplain made {_was(number)} skipped"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def find_images(paths: list[Path], recursive: bool = False) -> Found:
    """The files among the paths, and for each folder the images in it, sorted; each once.

    Hidden files and sub-folders and links to folders are skipped, and so are images in folders that onnxplain has made.

    Args:
        paths: Files, folders, and `STDIN`.
        recursive: Whether to look into sub-folders as well.

    Raises:
        OnnxplainError: If there are no images at all.
    """
    from onnxplain.runtime.images.loading import IMAGE_SUFFIXES

    found = Found()
    for path in paths:
        try:
            inside = _look_into(path, recursive) if path != STDIN and path.is_dir() else Found({path: Path()})
        except OSError as error:
            found.errors.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        if not inside.images:
            reasons = "".join(f"; {line}" for line in [*inside.skipped(), *inside.errors])
            found.errors.append(
                f"there are no images in the folder {path}; they would end in {', '.join(IMAGE_SUFFIXES)}{reasons}"
            )
            continue
        for image, place in inside.images.items():
            found.images.setdefault(image, place)
        found.errors += inside.errors
        found.figures += inside.figures
        found.folders += inside.folders
    if not found.images:
        raise OnnxplainError(found.errors[0] if len(found.errors) == 1 else f"no images: {'; '.join(found.errors)}")
    return found


def _look_into(folder: Path, recursive: bool) -> Found:
    """The images in a folder, sorted, and what is skipped; raises OSError if the folder cannot be read."""
    from onnxplain.runtime.signature import is_signed

    found, errors = Found(), list[OSError]()
    for image in sorted(_images_below(folder, recursive, errors)):
        if is_signed(image):
            found.figures += 1
        else:
            found.images[image] = image.parent.relative_to(folder)
    for error in errors:
        if error.filename == str(folder):
            raise error
        found.errors.append(f"{error.filename} cannot be read: {error.strerror}")
    if not recursive:
        found.folders = sum(
            item.is_dir() and not item.is_symlink() and not item.name.startswith(".") for item in folder.iterdir()
        )
    return found


def _images_below(folder: Path, recursive: bool, errors: list[OSError]) -> Iterator[Path]:
    """The files in a folder whose names end as those of images do; adds to `errors` why folders cannot be read."""
    from onnxplain.runtime.images.loading import IMAGE_SUFFIXES

    for place, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        files = (Path(place, name) for name in names if not name.startswith("."))  # such as those of macOS
        yield from (file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and _may_be_an_image(file))


def _may_be_an_image(file: Path) -> bool:
    """Whether it is a regular file or a broken link, of which the error is told when it is read."""
    with suppress(OSError):
        return file.is_file() or (file.is_symlink() and not file.exists())
    return True
