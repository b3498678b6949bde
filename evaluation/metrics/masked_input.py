"""Metrics that multiply the input by the map: what is left of the class where the map is high."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .metric import Case, Heatmap, Judged, Metric, Pixels
from .similarity import pearson


def scaled(heatmap: Heatmap) -> NDArray[np.float64]:
    """A map from 0, its minimum, to 1, its maximum; 0 everywhere if it is constant."""
    values: NDArray[np.float64] = heatmap.astype(np.float64) - heatmap.min()
    scaled_values: NDArray[np.float64] = values / (values.max() or 1)
    return scaled_values


def _masked(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    """The normalized input, times the map scaled to [0, 1]: 0, where the map is lowest, is the mean."""
    yield (case.pixels * scaled(heatmap)).astype(np.float32)


def _before_and_after(judged: Judged) -> tuple[float, float]:
    """The class's probability for the input, and for the masked one."""
    logits = np.concatenate([judged.case.logits[None], judged.logits])
    before, after = judged.case.probabilities(logits)[:, judged.target].tolist()
    return before, after


def _drop(judged: Judged) -> list[float]:
    """The share of the class's probability that is lost, 0 if none is."""
    before, after = _before_and_after(judged)
    return [(before - after) / before if after < before else 0.0]


def _increase(judged: Judged) -> list[float]:
    """1 if the class's probability grew, else 0."""
    before, after = _before_and_after(judged)
    return [float(after > before)]


def _drop_coherency_complexity(judged: Judged) -> list[float] | None:
    """Drop, coherency and complexity, each from 0 to 1."""
    if judged.own_maps is None:
        return None
    (masked,) = _masked(judged.case, judged.heatmap, "")
    (again,) = judged.own_maps([masked])
    correlation = pearson(judged.heatmap, again)
    coherency = 0.0 if correlation is None else (correlation + 1) / 2
    return [*_drop(judged), coherency, float(scaled(judged.heatmap).mean())]


def _adcc(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean of coherency, 1 - complexity and 1 - drop."""
    drop, coherency, complexity = np.moveaxis(means, -1, 0)
    with np.errstate(divide="ignore"):  # where one is 0, so is the mean
        return np.asarray(3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)))


_WACV = "Chattopadhyay et al.: Grad-CAM++, Generalized Gradient-based Visual Explanations, WACV 2018"

ROWS = (
    Metric(
        "average_drop",
        function=_drop,
        copies=_masked,
        better="lower",
        summary="share of the class's probability that is lost when the input is multiplied by the map",
        reference=_WACV,
    ),
    Metric(
        "average_increase",
        function=_increase,
        copies=_masked,
        better="higher",
        summary="share of images whose class gains probability when the input is multiplied by the map",
        reference=_WACV,
    ),
    Metric(
        "adcc",
        function=_drop_coherency_complexity,
        copies=_masked,
        combine=_adcc,
        better="higher",
        needs=frozenset({"maps"}),
        summary="harmonic mean of coherency (the masked input has the same map), 1 - complexity and 1 - average drop",
        reference="Poppi et al.: Revisiting the Evaluation of Class Activation Mapping for Explainability, CVPRW 2021",
    ),
)
