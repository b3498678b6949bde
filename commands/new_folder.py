"""Folders that a command writes as a whole, such as a page with its files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxplain.commands import arguments
from onnxplain.contract.errors import OnnxplainError


def check_new_folder(folder: Path, option: str, what: str, is_one: Callable[[Path], bool], force: bool) -> None:
    """Raise OnnxplainError unless the folder is new or empty, or may be replaced.

    Args:
        folder: Where the command is to write.
        option: The option that names it.
        what: What the command writes, such as "a page".
        is_one: Whether a folder holds what the command has written before.
        force: Whether that may be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise OnnxplainError(f"{option} {folder} is a file; give the name of a folder")
    if folder.exists() and any(folder.iterdir()):
        if not is_one(folder):
            raise OnnxplainError(f"{option} {folder} holds other files than {what}; give a new or an empty folder")
        if not force:
            raise OnnxplainError(f"{folder} exists; give --force to replace it, or another {option}")
    arguments.check_writable(folder.resolve().parent, option)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write in beside `folder`, which becomes it, or gives it its files, if the block ends well.

    Raises:
        OnnxplainError: An OSError, also of the block, says that the folder cannot be written.
    """
    from onnxplain.runtime.files import unfinished

    folder = folder.resolve()
    try:
        with unfinished(folder.parent) as scratch:
            fresh = scratch / "new"
            fresh.mkdir()
            yield fresh
            put_in_place(fresh, folder)
    except OSError as error:
        raise OnnxplainError(f"cannot write {folder}: {error.strerror or error}") from error


def put_in_place(fresh: Path, folder: Path) -> None:
    """Have the folder `fresh` become `folder`, or give it its files in place of what is there: all or nothing.

    A folder that is there stays, since a shell may stand in it or a server may have it open; what was in it is then
    beside `fresh`.
    """
    if not folder.exists():
        fresh.rename(folder)
        return
    old = fresh.with_name("old")
    old.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target in ((folder, old), (fresh, folder)):
            for entry in list(source.iterdir()):
                entry.rename(target / entry.name)
                moved.append((entry, target / entry.name))
    except OSError:
        for before, after in reversed(moved):
            after.rename(before)
        raise
