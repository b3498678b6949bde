"""Python's garbage collector, paused while graphs are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector, unless it is off already.

    A graph is some hundred thousand objects, which stay. The collector goes through all of them, and through all of
    PyTorch's, each time that a quarter has been added, which takes a third of the time in which graphs are made.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
