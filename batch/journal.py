"""What is known of a shard that is not finished: rows that are done, and images that somebody began with.

Every process that works on a shard has two files of its own in the folder of journals: NAME.rows, a stream of Arrow
batches, and NAME.begun, the number of each image before it is decoded, as int32. Both only grow, so that of a process
that was killed all is known but what it was about to write. A process that ends as it should takes the images that it
has no rows of off its list again.
"""

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

ROWS, BEGUN = ".rows", ".begun"
NUMBER_TYPE = np.dtype("<i4")


class Journal:
    """The journal of this process for one shard, which the end of the block closes.

    Attributes:
        files: Its two files.
    """

    def __init__(self, folder: Path, shard: int, schema: pa.Schema) -> None:
        name = folder / f"{shard:06}-{uuid.uuid4().hex}"
        begun, rows = self.files = name.with_suffix(BEGUN), name.with_suffix(ROWS)
        self._begun, self._file = begun.open("xb", buffering=0), rows.open("xb", buffering=0)
        self._written = 0
        self._writer = pa.ipc.new_stream(self._file, schema)

    def begin(self, number: int) -> None:
        """Note that an image is about to be read."""
        self._begun.write(np.array(number, NUMBER_TYPE).tobytes())

    def write(self, rows: pa.RecordBatch) -> None:
        """Note rows, which are of the images that were begun, in that order."""
        self._writer.write_batch(rows)
        self._written += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a full disk: what is there can be read all the same
            self._begun.truncate(self._written * NUMBER_TYPE.itemsize)
        self._begun.close()
        with suppress(OSError, pa.ArrowException):
            self._writer.close()
        self._file.close()


@dataclass
class Known:
    """What the journals of a shard hold.

    Attributes:
        rows: The rows, each image's once.
        done: The numbers of their images.
        begun: How often each of the others was begun with.
        files: The files that were read.
    """

    rows: list[pa.RecordBatch] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    begun: Counter[int] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)


def read_journals(folder: Path, shard: int, schema: pa.Schema) -> Known:
    """What all processes so far have noted of a shard."""
    known = Known(files=sorted(folder.glob(f"{shard:06}-*")))
    for path in known.files:
        if path.suffix == BEGUN:
            numbers = path.read_bytes()
            known.begun.update(np.frombuffer(numbers[: len(numbers) // 4 * 4], NUMBER_TYPE).tolist())
        elif path.suffix == ROWS:
            for batch in _batches(path, schema):
                new = [number not in known.done for number in batch.column(0).to_pylist()]
                if any(new):
                    batch = batch.filter(pa.array(new))
                    known.rows.append(batch)
                    known.done.update(batch.column(0).to_pylist())
    for number in known.done:
        del known.begun[number]
    return known


def _batches(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches of a file up to where it ends; the last may have been cut off."""
    try:
        with path.open("rb") as file, pa.ipc.open_stream(file.read()) as stream:
            if stream.schema == schema:
                for batch in stream:
                    batch.validate(full=True)
                    yield batch
    except (OSError, pa.ArrowException):
        return


def count_begun(folder: Path) -> int:
    """How many images the processes have begun with in the shards that are not finished."""
    sizes = 0
    for path in folder.glob(f"*{BEGUN}"):
        with suppress(OSError):  # its shard has been finished
            sizes += path.stat().st_size
    return sizes // NUMBER_TYPE.itemsize
