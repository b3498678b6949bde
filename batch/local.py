"""Shards explained on this machine: in this process, or in several."""

import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from onnxplain.contract.errors import OnnxplainError

from .output import Output, Shard
from .settings import Opening, Settings
from .worker import Worker

RESTARTS = 3  # without one more image done, before processes are given up
ENDED = 128 + signal.SIGTERM  # the exit status of a process that was asked to end


def explain_here(
    settings: Settings, opening: Opening, folder: Path, shards: Sequence[Shard]
) -> Generator[int, None, None]:
    """Explain shards in this process; yields the number of each when it is finished."""
    worker = Worker(settings, opening, folder)
    for shard in shards:
        worker.explain(shard)
        yield shard.number


def explain_in_processes(
    settings: Settings, opening: Opening, folder: Path, shards: Sequence[Shard], jobs: int
) -> Generator[int, None, None]:
    """Explain shards in several processes; yields the number of each when it is finished.

    When a process is ended from outside, all are started again, and go on where they were.

    Raises:
        OnnxplainError: As in a worker, or if processes end again and again.
    """
    context, output = get_context("spawn"), Output(folder)
    left = {shard.number: shard for shard in shards}
    failures, before = 0, (0, 0)
    while left:
        stop = context.Event()
        pool = ProcessPoolExecutor(min(jobs, len(left)), context, _start, (settings, opening, folder, stop))
        try:
            for done in as_completed([pool.submit(_explain, shard) for shard in left.values()]):
                del left[done.result()]
                yield done.result()
        except BrokenProcessPool:
            state = len(left), output.images_begun()
            failures, before = 0 if state != before else failures + 1, state
            if failures == RESTARTS:
                raise OnnxplainError(
                    "the processes are ended again and again, as happens when memory runs out; use fewer `jobs`"
                ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


class _Process:
    """A process of the pool.

    When it is asked to end, it finishes the images in hand first, and notes their rows.
    """

    def __init__(self, settings: Settings, opening: Opening, folder: Path, stop: Event) -> None:
        self._arguments, self._stop = (settings, opening, folder), stop
        self._is_working = self._is_ending = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the process that waits for this one
        signal.signal(signal.SIGTERM, self._end)
        threading.Thread(target=_end_with_parent, daemon=True).start()

    def explain(self, shard: Shard) -> None:
        """Explain a shard."""
        self._is_working = True
        try:
            self._worker.explain(shard)
        finally:
            self._is_working = False
        if self._is_ending:
            os._exit(ENDED)  # an exception would be a result of the pool's, and not end it

    @cached_property
    def _worker(self) -> Worker:
        """Made with the first shard, as an error would end the process if it were raised when that starts."""
        return Worker(*self._arguments, lambda: self._is_ending or self._stop.is_set())

    def _end(self, number: int, frame: Any) -> None:
        self._is_ending = True
        if not self._is_working:
            os._exit(ENDED)


_process: _Process


def _start(*arguments: Any) -> None:
    global _process
    _process = _Process(*arguments)


def _explain(shard: Shard) -> int:
    _process.explain(shard)
    return shard.number


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, which, if it was killed, has told nobody."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
