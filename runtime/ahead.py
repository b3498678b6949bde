"""Work done ahead, in a thread beside the one that waits for it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """As `map(function, items)`, but the function runs in one other thread, for up to `count` items ahead.

    The items themselves are taken in the caller's thread. Where taking one raises, the results of those before it come
    first. The thread ends with its work, or when the generator is closed early.
    """
    source = iter(items)
    end: Exception | None = None
    waiting: deque[Future[Result]] = deque()
    worker = ThreadPoolExecutor(1, "onnxplain")
    try:
        while True:
            while end is None and len(waiting) <= count:
                try:
                    waiting.append(worker.submit(function, next(source)))
                except Exception as error:  # StopIteration among them
                    end = error
                    worker.shutdown(wait=False)  # what is waiting is still done, and then the thread ends
            if not waiting:
                break
            yield waiting.popleft().result()
    finally:
        worker.shutdown(cancel_futures=True)
    if end is not None and not isinstance(end, StopIteration):
        raise end
