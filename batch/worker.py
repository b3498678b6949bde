"""One worker: it opens the artifact once, and explains shards."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onnxplain.contract.formats import FORMATS, format_of
from onnxplain.runtime import Explainer
from onnxplain.runtime.explanation import Explanation
from onnxplain.runtime.images.inputs import Opened, open_source, prepare_opened
from onnxplain.runtime.images.loading import allow_pixels, max_bytes
from onnxplain.runtime.images.prefetch import prefetch
from onnxplain.runtime.methods.choice import call_method
from onnxplain.runtime.outcome import Outcome
from onnxplain.runtime.pipeline import Request, explain_batches

from .items import Item
from .journal import Journal, Known, read_journals
from .output import Output, Shard
from .reading import ItemReader
from .rows import NUMBER, ProcessEndedError, Row, RowFormat
from .settings import Opening, Settings

ATTEMPTS = 2  # that may be made at an image: if processes ended meanwhile, it may be what ended them
AHEAD = 2  # groups whose files are read before they are needed


class Worker:
    """Explains shards, one after the other.

    Args:
        settings: What is asked of every image.
        opening: How the artifact is opened.
        folder: The folder of the batch.
        is_stopped: Asked after every group of images whether to stop.
    """

    def __init__(
        self, settings: Settings, opening: Opening, folder: Path, is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._settings, self._output, self._is_stopped = settings, Output(folder), is_stopped
        packed = FORMATS[format_of(Path(settings.artifact))].has_packed
        allow_pixels(settings.max_pixels)
        self._explainer = Explainer(
            settings.artifact,
            opening.device,
            opening.threads,
            opening.cache,
            opening.trust,
            max_pixels=settings.max_pixels,
            top_k=settings.top_k,
            providers=opening.providers,
            packed=packed,
        )
        metadata = self._explainer.metadata
        call = call_method(settings.method, {}, metadata)
        self._request = Request((call,), (settings.target,), None, settings.top_k)
        self._group = self._request.images_per_run(self._explainer.artifact)
        self._format = RowFormat(metadata, settings)

    @property
    def device(self) -> str:
        """Where the artifact runs."""
        return self._explainer.device

    def explain(self, shard: Shard) -> bool:
        """Explain what is left of a shard, and write its file.

        Returns:
            Whether it is finished; False if the worker was to stop.

        Raises:
            OnnxplainError: If the disk is full.
        """
        if self._output.part(shard.number).exists():
            return True
        items = shard.items()
        known = read_journals(self._output.journals, shard.number, self._format.journal_schema)
        rows = list(known.rows)
        try:
            with Journal(self._output.journals, shard.number, self._format.journal_schema) as journal:
                for group in self._rows(items, known, journal):
                    batch = self._format.encode(group)
                    journal.write(batch)
                    rows.append(batch)
                    if self._is_stopped():
                        return False
        except OSError as error:
            raise self._output.cannot_write(error) from None
        self._finish(shard, rows)
        for path in (*known.files, *journal.files):
            path.unlink(missing_ok=True)
        return True

    def _rows(self, items: Sequence[Item], known: Known, journal: Journal) -> Iterator[list[Row]]:
        """The rows that are missing, in groups.

        An image that a process had in hand when it ended is explained alone: if the next process ends with it as well,
        it is this image that ends them, and it is given up.
        """
        left = [number for number in range(len(items)) if number not in known.done]
        given_up = [number for number in left if known.begun[number] >= ATTEMPTS]
        for number in given_up:
            journal.begin(number)
            yield [Row(number, items[number].key, None, Outcome(error=_ended(items[number])))]
        suspects = [number for number in left if 0 < known.begun[number] < ATTEMPTS]
        yield from self._groups(items, suspects, journal, 1, 0)
        rest = [number for number in left if not known.begun[number]]
        yield from self._groups(items, rest, journal, self._group, AHEAD)

    def _groups(
        self, items: Sequence[Item], numbers: Sequence[int], journal: Journal, size: int, ahead: int
    ) -> Iterator[list[Row]]:
        """The rows of these images, in groups that are explained in one run, while others are read and decoded.

        Groups begin at multiples of `size`, wherever the last process ended: the values that float32 arithmetic gives
        may depend on how many images are in a run.
        """
        reader = _Reader(items, self._settings.max_pixels)
        read = prefetch(reader.open, numbers, ahead * size)
        digests = deque[str | None]()

        def begun() -> Iterator[Outcome[Opened]]:
            for number, image in zip(numbers, read, strict=True):
                journal.begin(number)
                digests.append(image.digest)
                yield image.opened

        prepared = prepare_opened(begun(), self._explainer.metadata, size if ahead else 0)
        try:
            for _, part in groupby(numbers, lambda number: number // size):
                group = list(part)
                outcomes = explain_batches(self._explainer.artifact, islice(prepared, len(group)), self._request, size)
                yield [
                    Row(number, items[number].key, digests.popleft(), outcome.then(_only))
                    for number, outcome in zip(group, outcomes, strict=True)
                ]
        finally:
            prepared.close()  # the threads end, and then the file that they read is closed
            read.close()
            reader.close()

    def _finish(self, shard: Shard, rows: list[pa.RecordBatch]) -> None:
        table = pa.Table.from_batches(rows, self._format.journal_schema).sort_by(NUMBER)
        numbers = table[NUMBER].to_numpy()
        if not np.array_equal(numbers, np.arange(shard.images)):
            raise AssertionError(f"shard {shard.number} has rows of the images {numbers}, and {shard.images} images")
        table = table.drop_columns([NUMBER]).cast(self._format.schema)
        self._output.write(
            self._output.part(shard.number),
            lambda path: pq.write_table(table, path, compression="zstd", write_page_checksum=True),
        )


@dataclass(frozen=True)
class _Read:
    """An image that was read and opened, and the digest of its file."""

    digest: str | None
    opened: Outcome[Opened]


class _Reader:
    """Reads the images of a shard in order."""

    def __init__(self, items: Sequence[Item], max_pixels: int) -> None:
        self._items, self._max_pixels = items, max_pixels
        self._reader = ItemReader(max_bytes(max_pixels))

    def open(self, number: int) -> _Read:
        """Read the image of that number."""
        data = Outcome.of(self._reader.read, self._items[number])
        digest = None if data.error is not None else hashlib.sha256(data.value).hexdigest()
        return _Read(digest, data.then(lambda content: open_source(content, self._max_pixels)))

    def close(self) -> None:
        """Close the file that is open."""
        self._reader.close()


def _only(results: dict[str, list[Explanation]]) -> Explanation:
    ((explanation,),) = results.values()
    return explanation


def _ended(item: Item) -> ProcessEndedError:
    return ProcessEndedError(f"{item.key} was given up: {ATTEMPTS} processes ended while they explained it")
