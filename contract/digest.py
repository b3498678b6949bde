"""Is a file still what export wrote? It ends with 64 hexadecimal characters, the SHA-256 of all bytes before them.

That tells of damage and of changes by other programs. It is no signature: who changes a file on purpose can write the
digest anew.
"""

import hashlib
import mmap
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from .errors import ArtifactError

LENGTH = 64
T = TypeVar("T")


def file_digest(path: Path, left_out: int = 0) -> str:
    """The SHA-256 of a file.

    Args:
        path: Of the file.
        left_out: How many bytes at its end do not count.

    Returns:
        64 hexadecimal characters.
    """
    size = path.stat().st_size - left_out
    if size <= 0:  # what cannot be mapped
        return hashlib.sha256().hexdigest()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()  # in one call, which leaves Python to other threads meanwhile


def stored_digest(path: Path) -> str | None:
    """The digest that the file ends with, None if it ends otherwise."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LENGTH))
        end = file.read()
    return end.decode() if re.fullmatch(rb"[0-9a-f]{64}", end) else None


def open_intact(path: Path, start: Callable[[Path], T]) -> T:
    """Open a file with `start`, while its digest is compared.

    A file without a digest is given to `start` first, which knows better what is wrong with one of another kind.

    Args:
        path: Of the file.
        start: What opens it.

    Returns:
        What `start` returns.

    Raises:
        ArtifactError: The file is not what export wrote, or it was replaced meanwhile; raised before what `start`
            raises.
    """
    with _unreplaced(path):
        stored = stored_digest(path)
        if stored is None:
            start(path)
            raise _changed(path)
        return open_beside(partial(_compare, path, stored), partial(start, path))


def open_beside(check: Callable[[], None], start: Callable[[], T]) -> T:
    """Run `check` in a thread of its own beside `start`: a digest takes a seventh of the time of opening.

    Returns:
        What `start` returns. What `check` raises is raised, before what `start` does.
    """
    with ThreadPoolExecutor(1) as pool:
        checking = pool.submit(check)
        try:
            return start()
        finally:
            checking.result()


@contextmanager
def _unreplaced(path: Path) -> Iterator[None]:
    """Raise ArtifactError unless the same file stands there at the end of the block, and nobody has written into it.

    A file is opened by its name several times: for its digest, for its structure, and for its weights, of which the
    structure says where they lie.
    """
    before = _identity(path)
    try:
        yield
    finally:
        if _identity(path) != before:
            raise replaced(path) from None


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:  # it is gone
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def replaced(path: Path) -> ArtifactError:
    """What to raise where a file has become another while it was opened."""
    return ArtifactError(f"{path} was removed, replaced or written into while it was opened; open it again")


def _compare(path: Path, stored: str) -> None:
    if file_digest(path, LENGTH) != stored:
        raise _changed(path)


def _changed(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} was damaged or changed since export: it does not end with the SHA-256 digest of its content; "
        "fetch it again, or export it again"
    )
