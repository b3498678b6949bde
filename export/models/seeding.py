"""Random numbers that are the same each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SEED = 0
"""Of weights that are not loaded."""


@contextmanager
def seeded() -> Iterator[None]:
    """Inside, the generators of random, NumPy and PyTorch start from SEED; afterwards they are as they were before."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            random.seed(SEED)
            np.random.seed(SEED)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
