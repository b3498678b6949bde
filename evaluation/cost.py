"""What a map of each method costs, in runs of the artifact that give the logits alone."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from onnxplain.runtime.images.inputs import PreparedImage
from onnxplain.runtime.methods.choice import MethodCall

from .model import Model

REPEATS = 5
MANY_RUNS = 1
"""Repeats of methods that take many runs for each map."""


def measure_costs(model: Model, calls: Sequence[MethodCall], image: PreparedImage) -> dict[str, float]:
    """By method the time for the map of one class of one prepared image, over the time of one run for the logits.

    Both are measured in turns; the medians count.
    """
    costs = {}
    for call in calls:
        explained, plain = [], []
        for _ in range(MANY_RUNS if call.method.runs else REPEATS):
            explained.append(_seconds(lambda one: model.explain([image], [one], [0]), call))
            plain.append(_seconds(model.logits, [image.input]))
        costs[call.method.name] = float(np.median(explained) / np.median(plain))
    return costs


def _seconds(make: Callable[..., Iterator[object]], *arguments: object) -> float:
    started = time.perf_counter()
    for _ in make(*arguments):
        pass
    return time.perf_counter() - started
