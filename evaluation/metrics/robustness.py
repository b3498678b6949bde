"""Robustness: how far the map changes when the image changes by nothing that anyone sees."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metric import Case, Judged, Metric, Pixels
from .purposes import ROUNDING, SENSITIVITY_NOISE

DRAWS = 10
"""Noisy images for max-sensitivity."""
RADIUS = 0.02
"""Of their noise, as a share of the range from black to white."""


def noisy(case: Case) -> list[Pixels]:
    """Copies of the input with independent noise on every value, uniform in -RADIUS .. RADIUS of its range."""
    random = case.random(SENSITIVITY_NOISE)
    radius = RADIUS / np.asarray(case.preprocessing.std)[:, None, None]
    return [(case.pixels + radius * random.uniform(-1, 1, case.pixels.shape)).astype(np.float32) for _ in range(DRAWS)]


def rounded(case: Case) -> list[Pixels]:
    """One copy in which every value is a neighbouring float32 number, at random the next above or below."""
    upwards = case.random(ROUNDING).random(case.pixels.shape) < 0.5
    towards = np.where(upwards, np.inf, -np.inf).astype(np.float32)
    return [np.nextafter(case.pixels, towards)]


def _largest_change(judged: Judged, name: str, inputs: Callable[[Case], list[Pixels]]) -> tuple[float] | None:
    """max over the inputs of |m(input) - m| / |m|, Euclidean norms; 0 without change, None if only m is zero."""
    if judged.maps is None:
        return None
    maps = judged.maps(name, lambda: inputs(judged.case))
    change = max(_norm(changed.astype(np.float64) - judged.heatmap) for changed in maps)
    size = _norm(judged.heatmap.astype(np.float64))
    if size == 0:
        return (0.0,) if change == 0 else None
    return (change / size,)


def max_sensitivity(judged: Judged) -> tuple[float] | None:
    """The largest change of the map, as a share of it, under noise: `noisy`.

    Unlike Quantus, draws that change the predicted class count too, since the class explained stays the same.
    """
    return _largest_change(judged, "noise", noisy)


def numerical_noise(judged: Judged) -> tuple[float] | None:
    """The change of the map, as a share of it, when every value of the input is rounded otherwise: `rounded`."""
    return _largest_change(judged, "rounding", rounded)


def _norm(values: NDArray[np.floating[Any]]) -> float:
    return float(np.linalg.norm(values))


ROWS = (
    Metric(
        "max_sensitivity",
        max_sensitivity,
        "lower",
        f"largest change of the map, as a share of it, among {DRAWS} draws of noise of {RADIUS:.0%} of the range",
        "Yeh et al.: On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019",
        needs=frozenset({"maps"}),
    ),
    Metric(
        "numerical_noise",
        numerical_noise,
        "lower",
        "change of the map, as a share of it, when every value of the input moves to the next float32 number",
        "max-sensitivity, with the smallest change there is",
        needs=frozenset({"maps"}),
        default=True,
    ),
)
