"""The folder that a batch writes into.

    part-000000.parquet, …   the rows, a file for each shard that is finished
    _batch.json              the settings
    _inputs/                 the items: in each file one row group for each shard, the first of which names the file
    _unfinished/             the journals

Readers of Parquet folders skip names that begin with an underscore.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from onnxplain.contract.errors import OnnxplainError, one_line

from .items import SCHEMA, SOURCE, Item, items_of, table_of, valid_text
from .journal import count_begun
from .settings import Settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SHARD = 1000  # images of a shard at most, if its size is not given
SHARDS = 32  # that there are for workers to share, where there are fewer images than so many of that size
MULTIPLE = 8  # of which the size is one, as runs of the graph often take so many images


@dataclass(frozen=True)
class Shard:
    """A number of images that are explained by one worker, and written into one file.

    Attributes:
        number: Its number.
        inputs: The file with its items.
        group: Which row group of that file they are.
        images: How many they are.
    """

    number: int
    inputs: str
    group: int
    images: int

    def items(self) -> list[Item]:
        """Its items."""
        with pq.ParquetFile(self.inputs) as file:
            return items_of(file.read_row_group(self.group))


@dataclass(frozen=True)
class Summary:
    """What stands in the finished shards.

    Attributes:
        images: How many rows there are.
        classes: How many rows are of each label.
        errors: How many rows have an error of each kind.
        bytes: The size of the files.
    """

    images: int
    classes: Counter[str]
    errors: Counter[str]
    bytes: int


class Output:
    """The folder.

    Attributes:
        folder: Its path.
        journals: Where the journals are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.journals = self.folder / "_unfinished"
        self._inputs = self.folder / "_inputs"
        self._settings = self.folder / "_batch.json"

    @contextmanager
    def begun(self, settings: Settings) -> Iterator[None]:
        """Make the folder, or check that it was begun with these settings, and lock it until the end of the block.

        Raises:
            OnnxplainError: If it cannot be made, is of other settings or holds other files, or another process writes
                into it.
        """
        if valid_text(str(self.folder)) != str(self.folder):
            raise OnnxplainError(f"pyarrow cannot write into {self.folder}, which is not UTF-8; give another `output`")
        if not self._settings.exists():
            with suppress(FileNotFoundError, NotADirectoryError):
                if any(not item.name.startswith((".", "_")) for item in self.folder.iterdir()):
                    raise OnnxplainError(f"{self.folder} holds other files; give another `output`")
        try:
            for each in (self._inputs, self.journals):
                each.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "_lock").open("wb")
        except OSError as error:
            raise OnnxplainError(
                f"cannot write into {self.folder}: {error.strerror or one_line(error)}; give another `output`"
            ) from None
        with lock:
            if not _locked(lock):
                raise OnnxplainError(f"another process writes into {self.folder}; wait, or give another `output`")
            if self._settings.exists():
                settings.check_same(self._settings.read_text(encoding="utf-8"), self.folder)
            else:
                self.write(self._settings, lambda path: path.write_text(json.dumps(settings.kept()), encoding="utf-8"))
            yield

    def add(self, items: Iterable[Item], size: int | None = None) -> None:
        """Add the items that are not in the folder yet, in shards.

        Args:
            items: All items.
            size: How many of them a shard has; None for SHARD, or fewer where that would give less than SHARDS shards.

        Raises:
            OnnxplainError: If two have one key, one has the key of an image that was elsewhere, the items in the folder
                cannot be read, or the disk is full.
        """
        if not self._input_files() and next(self.folder.glob("part-*.parquet"), None) is not None:
            raise OnnxplainError(f"{self._inputs}, which says what the rows are of, is gone; give another `output`")
        there: dict[str, int] = {}
        for path in self._input_files():
            with self._expected(path):
                table = pq.read_table(path, columns=["key", *SOURCE], page_checksum_verification=True)
            sources = zip(*(table[name].to_pylist() for name in SOURCE), strict=True)
            there.update(zip(table["key"].to_pylist(), map(hash, sources), strict=True))
        new: dict[str, Item] = {}
        for item in items:
            if item.key in new and new[item.key] != item:
                raise OnnxplainError(f"two images are called {item.key}, and rows are found by these names")
            if item.key not in there:
                new[item.key] = item
            elif there[item.key] != hash(item.source):
                raise OnnxplainError(
                    f"{self.folder} has a row of {item.key}, which then was another image than now in {item.file}, or "
                    "elsewhere in it; give another `output`"
                )
        if not new:
            return
        size = size or min(SHARD, -(-len(new) // (SHARDS * MULTIPLE)) * MULTIPLE)
        first = len(self.shards())
        rest = iter(new.values())

        def save(path: Path) -> None:
            with pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
                while part := list(islice(rest, size)):
                    writer.write_table(table_of(part), row_group_size=size)

        self.write(self._inputs / f"{first:06}.parquet", save)

    def shards(self) -> list[Shard]:
        """All shards, in order."""
        found: list[Shard] = []
        for path in self._input_files():
            with self._expected(path):
                metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                found.append(Shard(len(found), str(path), group, metadata.row_group(group).num_rows))
        return found

    def part(self, shard: int) -> Path:
        """The file of a shard, which is there when the shard is finished."""
        return self.folder / f"part-{shard:06}.parquet"

    def left(self) -> list[Shard]:
        """The shards that are not finished, or whose files are damaged, which are removed.

        Journals of others, which killed processes have left, are removed as well.
        """
        left = [shard for shard in self.shards() if not self._is_finished(shard)]
        numbers = {f"{shard.number:06}" for shard in left}
        for path in self.journals.iterdir():
            if path.name[:6] not in numbers:
                path.unlink(missing_ok=True)
        return left

    def images_begun(self) -> int:
        """How many images of the shards that are not finished have been begun with."""
        return count_begun(self.journals)

    def summary(self) -> Summary:
        """What stands in the finished shards."""
        classes, errors = Counter[str](), Counter[str]()
        images = size = 0
        for path in sorted(self.folder.glob("part-*.parquet")):
            try:
                table = pq.read_table(path, columns=["label", "error_kind"], page_checksum_verification=True)
            except (OSError, pa.ArrowException) as error:
                raise OnnxplainError(
                    f"{path} is damaged, remove it to have it computed again: {one_line(error)}"
                ) from None
            classes.update(label for label in table["label"].to_pylist() if label is not None)
            errors.update(kind for kind in table["error_kind"].to_pylist() if kind is not None)
            images += len(table)
            size += path.stat().st_size
        return Summary(images, classes, errors, size)

    def _is_finished(self, shard: Shard) -> bool:
        """Whether its file is there, and whole as far as its end tells."""
        part = self.part(shard.number)
        try:
            return bool(pq.read_metadata(part).num_rows == shard.images)
        except FileNotFoundError:
            return False
        except (OSError, pa.ArrowException):
            part.unlink()
            return False

    def write(self, path: Path, save: Callable[[Path], object]) -> None:
        """Have a file written beside the journals, and renamed when it is complete.

        Raises:
            OnnxplainError: If it cannot be written.
        """
        scratch = self.journals / f"{path.name}.{os.getpid()}"
        try:
            save(scratch)
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
            scratch.replace(path)
        except OSError as error:
            raise self.cannot_write(error) from None
        finally:
            scratch.unlink(missing_ok=True)

    def cannot_write(self, error: OSError) -> OnnxplainError:
        """That a file cannot be written; what is done stays."""
        why = error.strerror or one_line(error)
        return OnnxplainError(
            f"cannot write into {self.folder}: {why}; what is done is kept, and the same command goes on where it was"
        )

    @contextmanager
    def _expected(self, path: Path) -> Iterator[None]:
        """Raise OnnxplainError if a file of items that is read in the block is damaged."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise OnnxplainError(
                f"{path}, which says what the rows are of, is damaged; give another `output`: {one_line(error)}"
            ) from None

    def _input_files(self) -> list[Path]:
        return sorted(path for path in self._inputs.iterdir() if re.fullmatch(r"\d{6,}\.parquet", path.name))


def _locked(lock: IO[bytes]) -> bool:
    """Lock the file until it is closed or the process ends; False if another process has locked it."""
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True
