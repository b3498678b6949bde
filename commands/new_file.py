"""Files that explain writes: whole or not at all, and never over another."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # file systems without hard links


def write_new(write: Callable[[Path], object], folder: Path, name: str, suffix: str) -> Path:
    """Write `name` with the suffix, or name-2 and so on where that exists: whole or not at all, and never over a file.

    Args:
        write: Called with the path to write at, which has that suffix.
        folder: Where the file is to be; made if it is missing.
        name: Its name without the suffix.
        suffix: Its end, such as .png.

    Returns:
        The file.

    Raises:
        OSError: If it cannot be written; `filename` is the file's.
    """
    from onnxplain.runtime.files import unfinished

    path = folder / f"{name}{suffix}"
    try:
        with unfinished(folder) as scratch:
            temporary = scratch / f"new{suffix}"
            write(temporary)
            for number in itertools.count(2):
                try:
                    _rename(temporary, path)
                    return path
                except FileExistsError:
                    path = folder / f"{name}-{number}{suffix}"
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    raise AssertionError


def _rename(file: Path, path: Path) -> None:
    """Give the file another name; raises FileExistsError.

    It is one step, so that a process that is killed leaves nothing by the new name. On file systems without hard links
    it is two, and an empty file may be left.
    """
    try:
        os.link(file, path)  # rename() would replace it
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        path.touch(exist_ok=False)
        try:
            file.replace(path)
        except OSError:
            path.unlink()
            raise
