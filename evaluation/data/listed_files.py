"""Files with lists of images: what they have in common."""

from collections.abc import Sequence
from pathlib import Path

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.runtime.files import check_file

from .data_set import first_few


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; raises OnnxplainError if it cannot be read."""
    check_file(path, "a list of images", f"there is no file {path}")
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OnnxplainError(f"{path} cannot be read as text in UTF-8: {one_line(error)}") from None


def find_files(listing: Path, names: Sequence[str], folders: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Find images that are listed by their paths from a folder.

    Args:
        listing: The file with the list.
        names: The paths, as the list has them.
        folders: Where they may be from. The first that has any is it.

    Returns:
        By path the file, of those that are there; and a warning if others are not.

    Raises:
        OnnxplainError: If none is there, or none is listed.
    """
    if not names:
        raise OnnxplainError(f"{listing} lists no images")
    for folder in folders:
        found = {name: folder / name for name in names if _is_file(folder / name)}
        if found:
            missing = [name for name in names if name not in found]
            lost = f"{len(missing)} of {len(names)} images that {listing} lists are not there: {first_few(missing)}"
            return found, [lost] if missing else []
    places = " or ".join(map(str, folders))
    raise OnnxplainError(
        f"none of the {len(names)} images that {listing} lists is there; the first, {names[0]}, is not in {places}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False
