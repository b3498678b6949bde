"""The pictures that explain is given: files, and what is found in folders."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from onnxplain.commands.arguments import STDIN, InputError


@dataclass
class Found:
    """What was found of pictures to explain.

    `pictures`: each with the folder that its overlays belong into, below that of all. `errors`: why folders cannot be
    read, or that there is nothing in them. `ours`: how many files were passed over as onnxplain made them; `folders`:
    how many sub-folders with pictures.
    """

    pictures: dict[Path, Path] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    ours: int = 0
    folders: int = 0

    def skipped(self) -> list[str]:
        """What was passed over, in words."""
        lines = []
        if self.ours:
            lines.append(ours_skipped(self.ours))
        if self.folders:
            them = "it" if self.folders == 1 else "them"
            what = counted(self.folders, "sub-folder")
            lines.append(f"{what} with pictures {_was(self.folders)} skipped; --recursive explains {them} too")
        return lines


def counted(number: int, what: str) -> str:
    """Such as 1 file, 2 files."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def ours_skipped(number: int) -> str:
    """That so many files were passed over since onnxplain made them."""
    return f"{counted(number, 'picture')} that onnxplain made {_was(number)} skipped"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def find_pictures(paths: list[Path], recursive: bool = False) -> Found:
    """The files among the paths, and for each folder the pictures in it, sorted; each once.

    `recursive`: and those in its sub-folders. Hidden sub-folders and links to folders are passed over, and so are
    pictures in folders that onnxplain has made.
    """
    from onnxplain.runtime.images.loading import IMAGE_SUFFIXES

    found = Found()
    for path in paths:
        try:
            inside = _look_into(path, recursive) if path != STDIN and path.is_dir() else Found({path: Path()})
        except OSError as error:
            found.errors.append(f"{path} cannot be read: {error.strerror or error}")
            continue
        if not inside.pictures:
            reasons = "".join(f"; {line}" for line in [*inside.skipped(), *inside.errors])
            found.errors.append(
                f"there are no pictures in the folder {path}; they would end in {', '.join(IMAGE_SUFFIXES)}{reasons}"
            )
            continue
        for picture, place in inside.pictures.items():
            found.pictures.setdefault(picture, place)
        found.errors += inside.errors
        found.ours += inside.ours
        found.folders += inside.folders
    if not found.pictures:
        raise InputError(found.errors[0] if len(found.errors) == 1 else f"no pictures: {'; '.join(found.errors)}")
    return found


def _look_into(folder: Path, recursive: bool) -> Found:
    """The pictures in a folder, sorted, and what is passed over. Raises OSError if the folder cannot be read."""
    from onnxplain.runtime.signature import is_ours

    found, errors = Found(), list[OSError]()
    for picture in sorted(_pictures_below(folder, recursive, errors)):
        if is_ours(picture):
            found.ours += 1
        else:
            found.pictures[picture] = picture.parent.relative_to(folder)
    for error in errors:
        if error.filename == str(folder):
            raise error
        found.errors.append(f"{error.filename} cannot be read: {error.strerror}")
    if not recursive:
        below = [item for item in folder.iterdir() if item.is_dir() and not item.is_symlink() and item.name[0] != "."]
        found.folders = sum(any(not is_ours(item) for item in _pictures_below(each, True, [])) for each in below)
    return found


def _pictures_below(folder: Path, recursive: bool, errors: list[OSError]) -> Iterator[Path]:
    """The files in a folder that end as pictures do; why folders cannot be read is added to the errors."""
    from onnxplain.runtime.images.loading import IMAGE_SUFFIXES

    for place, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if recursive and name[0] != "."]
        files = (Path(place, name) for name in names)
        yield from (file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and _may_be_one(file))


def _may_be_one(file: Path) -> bool:
    """Whether it is a regular file, or was to be one."""
    with suppress(OSError):
        return file.is_file() or (file.is_symlink() and not file.exists())
    return True  # which reading will tell
