"""Shards explained on this machine: in this process, or in several."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
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


def explain_here(settings: Settings, opening: Opening, folder: Path, shards: Sequence[Shard]) -> Iterator[int]:
    """Explain shards in this process; yields the number of each when it is finished."""
    worker = Worker(settings, opening, folder)
    for shard in shards:
        worker.explain(shard)
        yield shard.number


def explain_in_processes(
    settings: Settings, opening: Opening, folder: Path, shards: Sequence[Shard], jobs: int
) -> Iterator[int]:
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
    """What a process of the pool was started with."""

    given: tuple[Settings, Opening, Path, Callable[[], bool]]


def _start(settings: Settings, opening: Opening, folder: Path, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the process that waits for this one
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Process.given = settings, opening, folder, stop.is_set


def _end(number: int, frame: Any) -> None:
    raise SystemExit(ENDED)


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, which, if it was killed, has told nobody."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@cache
def _worker() -> Worker:
    """Made with the first shard, as an error would end the process if it were raised when that starts."""
    return Worker(*_Process.given)


def _explain(shard: Shard) -> int:
    try:
        _worker().explain(shard)
    except SystemExit:  # the pool would go on with the next shard
        os._exit(ENDED)
    return shard.number
