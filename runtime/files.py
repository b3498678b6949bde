"""Files that are read, regular ones only, as the others may have no end; and where files are written until finished."""

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from .errors import OnnxplainError

UNFINISHED = ".onnxplain-"  # how the name of a folder begins that holds what is being written
LONGEST = 86400  # seconds that any of it takes to write


def check_file(path: Path, what: str, missing: str) -> None:
    """Raise OnnxplainError unless there is a regular file at `path`.

    `what` it is to be, such as "an image"; `missing` is what the error says if there is nothing.
    """
    try:
        if path.is_file():
            return
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise OnnxplainError(f"{path} cannot be read: {error.strerror or error}") from None
    if is_folder:
        raise OnnxplainError(f"{path} is a folder, not {what}; give a file")
    if is_there:
        raise OnnxplainError(f"{path} is not a regular file but a pipe, socket or device; give {what} as a file")
    raise OnnxplainError(missing)


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A new folder in `folder` for what is being written, removed at the end: rename what is finished out of it.

    What killed processes have left of such folders is removed as well. Raises OSError if it cannot be made.
    """
    _remove_left_behind(folder.resolve())
    name = f"{UNFINISHED}{platform.node()}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=folder, prefix=name, ignore_cleanup_errors=True) as made:
        yield Path(made)


@cache  # once in a process: there may be many files in the folder
def _remove_left_behind(folder: Path) -> None:
    for item in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if _is_left_behind(item):
                shutil.rmtree(item)


def _is_left_behind(item: Path) -> bool:
    """Whether the process that made it is no more, or cannot be at work any longer."""
    made = re.fullmatch(r"(.*)-(\d+)-\w+", item.name.removeprefix(UNFINISHED))
    if made and made[1] == platform.node() and os.name == "posix":  # elsewhere kill() would do it
        try:
            os.kill(int(made[2]), 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is another user's
            pass
    return time.time() - item.stat().st_mtime > LONGEST
