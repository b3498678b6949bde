"""Cases for metrics, and models that metrics can be computed by hand for."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.preprocessing import Preprocessing
from onnxplain.evaluation.metrics.metric import Case, Heatmap, Judged, Metric

Model = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From inputs [copies, 3, H, W] to logits [copies, classes]."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def make_case(pixels: NDArray[np.float32], model: Model, patch: int = 1, seed: int = 0) -> Case:
    height, width = pixels.shape[1:]
    preprocessing = Preprocessing((height, width), (0.5, 0.4, 0.6), (0.5, 0.25, 0.2))
    return Case(pixels, model(pixels[None])[0], softmax, preprocessing, (height // patch, width // patch), seed)


def judged(metric: Metric, case: Case, model: Model, heatmap: Heatmap, target: int = 0, baseline: str = "") -> Judged:
    """What the metric is given: the logits of the copies that it asks for."""
    logits = np.zeros((0, len(case.logits)), np.float32)
    if metric.copies:
        logits = model(np.stack([*metric.copies(case, heatmap, baseline or metric.baseline or "")]))
    return Judged(case, heatmap, target, "method", logits, None, None, None, None)


def measured(metric: Metric, case: Case, model: Model, heatmap: Heatmap, target: int = 0, baseline: str = "") -> float:
    """The metric's value of one map."""
    return metric.value(metric.function(judged(metric, case, model, heatmap, target, baseline)))
