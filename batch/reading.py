"""The bytes of images, from where the items say that they are."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from onnxplain.contract.errors import ImageError, ImageMissingError, one_line

from .items import Item

ROWS = 16  # of a Parquet file that are decoded at once
BYTES_OF_DATASETS, PATH_OF_DATASETS = ".bytes", ".path"
"""What the fields are called in which the library datasets has an image: either holds it, and the other may be null."""


class ItemReader:
    """Reads items one after the other; fast where those of one file come in the order in which they are in it.

    Args:
        most: Of larger images no more bytes than one more are read.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tar: tuple[str, BinaryIO] | None = None
        self._rows: _Rows | None = None

    def read(self, item: Item) -> bytes:
        """The bytes of the image's file.

        Raises:
            ImageError: If it cannot be read.
        """
        if item.error is not None:
            raise ImageError(item.error)
        try:
            if item.column is not None:
                return self._from_parquet(item)
            return self._from_tar(item) if item.size >= 0 else self._from_file(Path(item.file), item.key)
        except FileNotFoundError as error:
            raise ImageMissingError(f"there is no file {error.filename or item.file}") from None
        except OSError as error:
            raise ImageError(f"{item.key} cannot be read: {error.strerror or one_line(error)}") from None

    def _from_file(self, path: Path, key: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # others, such as pipes, may have no end
                raise ImageError(f"{key} is not a regular file")
            return file.read(self._most + 1)

    def _from_tar(self, item: Item) -> bytes:
        if self._tar is None or self._tar[0] != item.file:
            self.close()
            self._tar = item.file, Path(item.file).open("rb")  # noqa: SIM115  # until another file is read
        _, file = self._tar
        file.seek(item.place)
        wanted = min(item.size, self._most + 1)
        data = file.read(wanted)
        if len(data) < wanted:
            raise ImageError(f"{item.key} cannot be read: {item.file} ends before it does")
        return data

    def _from_parquet(self, item: Item) -> bytes:
        if self._rows is None or not self._rows.has_ahead(item):
            self.close()
            self._rows = _Rows(item)
        try:
            value = self._rows.value(item.place)
        except (OSError, pa.ArrowException) as error:
            self._rows = None
            raise ImageError(f"{item.key} cannot be read: {item.file} is damaged: {one_line(error)}") from None
        if value is None:
            raise ImageMissingError(f"{item.key} is null")
        if isinstance(value, str):
            return self._from_file(Path(item.file).parent / value, item.key)
        return value[: self._most + 1]

    def close(self) -> None:
        """Close the file that is open."""
        if self._tar is not None:
            self._tar[1].close()
        if self._rows is not None:
            self._rows.close()
        self._tar = self._rows = None


class _Rows:
    """The values of one column, from one row on."""

    def __init__(self, item: Item) -> None:
        self._file, self._column, self._next = item.file, item.column, item.place
        assert item.column is not None
        try:
            self._source = pq.ParquetFile(item.file)
            self._values = self._from(item.place, item.column)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ImageError(f"{item.file} cannot be read as a Parquet file: {one_line(error)}") from None

    def has_ahead(self, item: Item) -> bool:
        """Whether the item is in this column, and not yet passed."""
        return (item.file, item.column) == (self._file, self._column) and item.place >= self._next

    def value(self, row: int) -> bytes | str | None:
        """The value of that row; those before it are passed."""
        for value in self._values:
            self._next += 1
            if self._next > row:
                return value
        raise pa.ArrowInvalid("it has fewer rows than before")

    def close(self) -> None:
        self._source.close()

    def _from(self, row: int, column: str) -> Iterator[bytes | str | None]:
        first, groups = 0, self._source.metadata.num_row_groups
        columns = [column, _path_beside(column)] if column.endswith(BYTES_OF_DATASETS) else [column]
        for group in range(groups):
            count = self._source.metadata.row_group(group).num_rows
            if first + count > row:
                skipped = row - first
                for batch in self._source.iter_batches(ROWS, row_groups=range(group, groups), columns=columns):
                    for value in batch.slice(skipped).column(0).to_pylist():
                        yield _image_in(value, column)
                    skipped = max(0, skipped - len(batch))
                return
            first += count


def _path_beside(column: str) -> str:
    return column.removesuffix(BYTES_OF_DATASETS) + PATH_OF_DATASETS


def _image_in(value: Any, column: str) -> bytes | str | None:
    """The image or path in a row of the column, or in a struct that has the column as its field."""
    if isinstance(value, dict):
        inner = value.get(column.partition(".")[2])
        value = value.get(PATH_OF_DATASETS[1:]) if inner is None else inner
    found: bytes | str | None = value
    return found
