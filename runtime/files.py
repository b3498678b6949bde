"""Checks of files before they are read, and folders for files that are being written."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from onnxplain.contract.errors import OnnxplainError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".onnxplain-"  # how the name of a folder begins that holds what is being written
NAME = re.escape(UNFINISHED) + r"\w{8}"  # the whole of it
LOCK = "lock"  # a file in it, locked by whoever is writing
LONGEST = 86400  # seconds after which nobody is writing any more, where files cannot be locked


def check_file(path: Path, what: str, missing: str, kind: type[OnnxplainError] = OnnxplainError) -> None:
    """Check that there is a regular file; others, such as pipes, may have no end.

    Args:
        path: Where it is to be.
        what: What it is to be, such as "an image".
        missing: What the error says if there is nothing.
        kind: The error's class.

    Raises:
        OnnxplainError: If there is none, or if it may not be looked at.
    """
    try:
        if path.is_file():
            return
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise kind(f"{path} cannot be read: {error.strerror or error}") from None
    if is_folder:
        raise kind(f"{path} is a folder, not {what}; give a file")
    if is_there:
        raise kind(f"{path} is not a regular file but a pipe, socket or device; give {what} as a file")
    raise kind(missing)


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A temporary folder to write in; rename what is finished out of it. It is removed at the end of the block.

    Temporary folders that killed processes have left are removed as well.

    Args:
        folder: Where the temporary folder is made. It is made itself, with those above it, and removed again if the
            block raises.

    Yields:
        The temporary folder.

    Raises:
        OSError: If it cannot be made, also when another process removes `folder` because its own block has failed.
    """
    with existing_folder(folder):
        _remove_left_behind(folder.resolve())
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED, ignore_cleanup_errors=True) as scratch,
            (Path(scratch) / LOCK).open("wb") as lock,
        ):
            _hold(lock)
            yield Path(scratch)


@contextmanager
def existing_folder(folder: Path, only_tried: bool = False) -> Iterator[None]:
    """Make `folder` and those above it; what was made is removed again if the block fails, or if it is only tried.

    Raises OSError if it cannot be made.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    keep = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
        keep = not only_tried
    finally:
        for each in () if keep else made:
            with suppress(OSError):  # by now there may be something else in it
                each.rmdir()


@cache  # once in a process: there may be many files in the folder
def _remove_left_behind(folder: Path) -> None:
    for item in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if re.fullmatch(NAME, item.name) and (item / LOCK).is_file() and _is_left_behind(item):
                shutil.rmtree(item)


def _is_left_behind(item: Path) -> bool:
    """Whether no process holds the folder's lock; where there are no locks, whether the folder is old."""
    if fcntl is None:
        return time.time() - item.stat().st_mtime > LONGEST
    with (item / LOCK).open("rb+") as lock:
        return _hold(lock)


def _hold(lock: IO[bytes]) -> bool:
    """Lock the file until it is closed or the process ends; whether that was possible."""
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system has no locks
        return False
    return True
