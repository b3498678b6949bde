"""A map whose function runs ahead, in threads beside the one that waits for the results."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    count: int,
    workers: int = 1,
    cost: Callable[[Item], int] = lambda item: 0,
    budget: int = 0,
) -> Generator[Result, None, None]:
    """As `map(function, items)`, but the function runs in other threads, for items that are not asked for yet.

    The threads end with their work, or when the generator is closed early.

    Args:
        function: What is called with each item, in one of the threads.
        items: Taken in the caller's thread. Where taking one raises, the results of those before it come first.
        count: For how many items ahead the function runs.
        workers: The number of threads.
        cost: What an item costs, such as bytes of memory.
        budget: Fewer items are taken ahead where their costs together would exceed this; one is in any case.

    Yields:
        The results, in the order of the items.
    """
    source = iter(items)
    end: Exception | None = None
    taken: list[tuple[Item, int]] = []  # one at most, for which the budget had no room
    waiting: deque[tuple[Future[Result], int]] = deque()
    pool = ThreadPoolExecutor(workers, "onnxplain")
    try:
        while True:
            while end is None and len(waiting) <= count:
                try:
                    if not taken:
                        item = next(source)
                        taken.append((item, cost(item)))
                except Exception as error:  # StopIteration among them
                    end = error
                    pool.shutdown(wait=False)  # what is waiting is still done, and then the threads end
                    break
                if waiting and sum(each for _, each in [*waiting, *taken]) > budget:
                    break
                item, price = taken.pop()
                waiting.append((pool.submit(function, item), price))
                del item  # or it would be held until the next is taken
            if not waiting:
                break
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)
    if end is not None and not isinstance(end, StopIteration):
        raise end
