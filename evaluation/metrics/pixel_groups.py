"""Metrics that remove one group of pixels at a time: does the class lose as much as the map says of that group?"""

from collections.abc import Iterator

import numpy as np

from .metric import Case, Heatmap, Judged, Metric, Pixels
from .purposes import SQUARES
from .removal import order, remover

GROUPS = 10
"""Groups of pixels that SaCo compares."""
DRAWS = 100
"""Squares that infidelity removes."""
LARGEST = 10 / 28
"""Their greatest side / the shorter side of the input, as published for inputs of 28 pixels."""

Square = tuple[slice, slice]


def _ranked_groups(case: Case, heatmap: Heatmap) -> list[np.ndarray]:
    """The flat indices of each group's pixels, of the group with the highest first."""
    ranked = order(case, heatmap, descending=True)
    ends = [ranked.size * group // GROUPS for group in range(1, GROUPS)]
    return np.split(ranked, ends)


def _without_each_group(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    remove = remover(case, baseline)
    for group in _ranked_groups(case, heatmap):
        where = np.zeros(heatmap.shape, bool)
        where.flat[group] = True
        yield remove(where)


def _saco(judged: Judged) -> list[float]:
    """Over all pairs of groups, the difference of their values, counted negative if the lower loses more.

    It is divided by the sum of all differences; 0 if there are none. A group's value is the mean of its pixels, where
    the paper has their sum: for groups of one size the same but for a factor, and fair where sizes differ by a pixel.
    """
    case = judged.case
    flat = judged.heatmap.ravel().astype(np.float64) - judged.heatmap.min()
    values = np.array([flat[group].mean() for group in _ranked_groups(case, judged.heatmap)])
    left = case.probabilities(judged.logits)[:, judged.target]
    higher, lower = np.triu_indices(GROUPS, 1)
    differences = values[higher] - values[lower]
    signs = np.where(left[higher] <= left[lower], 1, -1)
    total = differences.sum()
    return [float((signs * differences).sum() / total) if total > 0 else 0.0]


def _squares(case: Case) -> list[Square]:
    """Squares of random side and place, the same for all maps of the image."""
    height, width = case.pixels.shape[1:]
    random = case.random(SQUARES)
    sides = random.integers(1, max(1, round(LARGEST * min(height, width))), DRAWS, endpoint=True)
    tops, lefts = (random.integers(0, length - sides, endpoint=True) for length in (height, width))
    return [
        (slice(top, top + side), slice(left, left + side))
        for side, top, left in zip(sides.tolist(), tops.tolist(), lefts.tolist(), strict=True)
    ]


def _without_each_square(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    remove = remover(case, baseline)
    for square in _squares(case):
        where = np.zeros(heatmap.shape, bool)
        where[square] = True
        yield remove(where)


def _infidelity(judged: Judged) -> list[float]:
    """The mean of (sum of the map in the square - drop of the logit)^2, with the map scaled so that it is least."""
    sums = np.array([judged.heatmap[square].sum(dtype=np.float64) for square in _squares(judged.case)])
    drops = float(judged.case.logits[judged.target]) - judged.logits[:, judged.target].astype(np.float64)
    squared = sums @ sums
    scale = sums @ drops / squared if squared > 0 else 0.0
    return [float(np.mean((scale * sums - drops) ** 2))]


ROWS = (
    Metric(
        "saco",
        function=_saco,
        copies=_without_each_group,
        better="higher",
        baseline="mean",
        summary="whether tenths of the pixels with higher values lose more probability when removed alone, -1 to 1",
        reference="Wu et al.: On the Faithfulness of Vision Transformer Explanations, CVPR 2024",
        default=True,
    ),
    Metric(
        "infidelity",
        function=_infidelity,
        copies=_without_each_square,
        copies_per_map=False,
        better="lower",
        baseline="black",
        summary="mean squared error of the map's sums over squares, scaled best, as drops of the logit without these",
        reference="Yeh et al.: On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019",
    ),
)
