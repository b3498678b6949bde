"""Items gathered to batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], size: int, cost: Callable[[Item], int] = lambda item: 0, budget: float = float("inf")
) -> Iterator[list[Item]]:
    """Lists of up to `size` items; one ends earlier with the item whose cost fills the budget.

    Where taking an item raises, the items before it come first, and then the error.
    """
    batch: list[Item] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size or sum(map(cost, batch)) >= budget:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
