"""Metrics that remove pixels in the order of the map, and ask the model again."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .metric import Case, Copies, Heatmap, Judged, Metric, Pixels
from .removal import order, remover

_SHARES = tuple(step / 10 for step in range(10))
_CVPR = "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021"


def _tenths(descending: bool) -> Copies:
    """The input without 10, 20, …, 90 % of its pixels, rounded down, highest first or lowest first."""

    def copies(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
        ranked, remove = order(case, heatmap, descending), remover(case, baseline)
        for step in range(1, len(_SHARES)):
            where = np.zeros(heatmap.shape, bool)
            where.flat[ranked[: step * heatmap.size // 10]] = True
            yield remove(where)

    return copies


def _hits(judged: Judged) -> list[float]:
    """1 where the class judged for has the highest logit, else 0: without removal, and after each step."""
    logits = np.concatenate([judged.case.logits[None], judged.logits])
    return [float(leader == judged.target) for leader in logits.argmax(-1)]


def _area_under_hits(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """100 x the area under the share of hits, by trapezoids over [0, 0.9]."""
    return np.asarray(100 * np.trapezoid(curve, _SHARES, axis=-1))


_perturbation = partial(
    Metric,
    function=_hits,
    reference=_CVPR,
    combine=_area_under_hits,
    baseline="black",
    curve=_SHARES,
    axis="share of pixels removed",
    default=True,
)

ROWS = (
    _perturbation(
        "perturbation_positive",
        copies=_tenths(descending=True),
        better="lower",
        summary="area under the share of images whose class stays the top one as the highest pixels go, 0 to 90",
    ),
    _perturbation(
        "perturbation_negative",
        copies=_tenths(descending=False),
        better="higher",
        summary="area under the share of images whose class stays the top one as the lowest pixels go, 0 to 90",
    ),
)
