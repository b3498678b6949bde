"""Work done ahead, in threads beside the one that waits for it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], count: int, workers: int = 1) -> Iterator[Result]:
    """As `map(function, items)`, but the function runs in other threads, for up to `count` items ahead.

    The items themselves are taken in the caller's thread. Where taking one raises, the results of those before it come
    first. The threads end with their work, or when the generator is closed early.
    """
    source = iter(items)
    end: Exception | None = None
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, "onnxplain")
    try:
        while True:
            while end is None and len(waiting) <= count:
                try:
                    waiting.append(pool.submit(function, next(source)))
                except Exception as error:  # StopIteration among them
                    end = error
                    pool.shutdown(wait=False)  # what is waiting is still done, and then the threads end
            if not waiting:
                break
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
    if end is not None and not isinstance(end, StopIteration):
        raise end
