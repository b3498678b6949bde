"""What a map of each method costs, in runs of the artifact that give the logits alone."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from onnxplain.runtime.images.inputs import PreparedImage
from onnxplain.runtime.methods.calls import MethodCall

from .model import Model

REPEATS = 9
MANY_RUNS = 1
"""Repeats of methods that take many runs for each map."""


def measure_costs(model: Model, calls: Sequence[MethodCall], image: PreparedImage) -> dict[str, float]:
    """By method the time for the map of one class of one prepared image, over the time of one run for the logits.

    Both are measured in turns; the medians count.
    """

    def explain(call: MethodCall) -> None:
        for _ in model.explain([image], [call], [0]):
            pass

    def logits() -> None:
        model.artifact.run(image.input[None], [0], ())

    costs = {}
    for call in calls:
        explained, plain = [], []
        for _ in range(MANY_RUNS if call.method.runs else REPEATS):
            explained.append(_seconds(partial(explain, call)))
            plain.append(_seconds(logits))
        costs[call.key] = float(np.median(explained) / np.median(plain))
    return costs


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
