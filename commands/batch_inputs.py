"""What the command batch is given, as items."""

import glob
import hashlib
import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands.find_images import find_images
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import SUFFIXES

if TYPE_CHECKING:
    from onnxplain.batch.items import Item

LISTS, TARS, PARQUET = (".txt",), (".tar",), (".parquet", ".pq")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.zst", ".tar.xz")


def find_items(inputs: list[str], recursive: bool, column: str | None, key: str | None) -> "Iterator[Item]":
    """The images of all inputs, those of folders sorted.

    Args:
        inputs: Folders, files and patterns.
        recursive: Whether to look into sub-folders of folders as well.
        column: Of Parquet files, see `items_in_parquet`.
        key: Likewise.

    Raises:
        OnnxplainError: If there is nothing, or it cannot be read. A path in a list or a table may lead nowhere: that
            image gets a row with the error.
    """
    from onnxplain.batch.items import Item, items_in_list, items_in_parquet, items_in_tar

    paths = [path for text in inputs for path in _matching(text)]
    tables = [path for path in paths if path.suffix.lower() in PARQUET]
    for option, value in (("column", column), ("key", key)):
        if value is not None and not tables:
            raise OnnxplainError(f"`{option}` is for Parquet files, and none is given; leave it out")
    for path in paths:
        name = path.name.lower()
        if path.is_dir():
            found = find_images([path], recursive)
            if found.errors:
                raise OnnxplainError(found.errors[0])
            yield from (Item(str(image), str(image.absolute())) for image in found.images)
        elif name.endswith(COMPRESSED):
            raise OnnxplainError(f"{path} is compressed, so that images in it cannot be found; give it as .tar")
        elif name.endswith(TARS):
            yield from items_in_tar(path)
        elif name.endswith(PARQUET):
            yield from items_in_parquet(path, column, key)
        elif name.endswith(LISTS):
            yield from items_in_list(path)
        elif name.endswith(tuple(SUFFIXES)):
            raise OnnxplainError(f"{path} is an artifact, not an image")
        elif path.exists() or path.is_symlink():  # a pattern may match a link that leads nowhere
            yield Item(str(path), str(path.absolute()))
        else:
            raise OnnxplainError(
                f"there is no {path}; give images, folders, patterns, lists (.txt), .parquet or .tar files"
            )


def chosen(items: "Iterable[Item]", limit: int | None, sample: int | None) -> "Iterable[Item]":
    """Of the items the first so many, or so many at random.

    The sample is the items whose keys have the least digests: of a folder that grows, most of them stay in it.
    """
    if limit is not None and sample is not None:
        raise OnnxplainError("--limit and --sample exclude each other; give one of them")
    if sample is not None:
        return heapq.nsmallest(sample, _distinct(items), lambda item: hashlib.sha256(item.key.encode()).digest())
    return items if limit is None else islice(_distinct(items), limit)


def _distinct(items: "Iterable[Item]") -> "Iterator[Item]":
    seen = set()
    for item in items:
        if item not in seen:
            seen.add(item)
            yield item


def _matching(text: str) -> list[Path]:
    """The path, or those that match if it is a pattern and no file is called so."""
    if Path(text).exists() or not glob.has_magic(text):
        return [Path(text)]
    found = sorted(map(Path, glob.glob(text, recursive=True)))  # noqa: PTH207  # a pattern may be absolute
    if not found:
        raise OnnxplainError(f"no file matches {text}")
    return found
