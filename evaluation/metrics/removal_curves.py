"""Metrics that remove pixels or patches in the order of the map, more and more, and watch the class."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .metric import Case, Copies, Heatmap, Judged, Metric, Pixels
from .removal import order, order_of, removals

TENTHS = tuple(step / 10 for step in range(10))
STEPS = 224
"""Steps of insertion and deletion. RISE takes 224 pixels of 224 x 224 at a time; the same share of any other input."""


def _in_order(case: Case, heatmap: Heatmap, descending: bool, counts: list[int], baseline: str) -> Iterator[Pixels]:
    """The input without so many pixels, for each of the ascending counts."""
    pixels = np.arange(heatmap.size).reshape(heatmap.shape)
    return removals(case, pixels, order(case, heatmap, descending), counts, baseline)


def _tenths(descending: bool) -> Copies:
    """The input without 10, 20, …, 90 % of its pixels, rounded down, highest first or lowest first."""

    def copies(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
        counts = [heatmap.size * step // 10 for step in range(1, 10)]
        return _in_order(case, heatmap, descending, counts, baseline)

    return copies


def _hits(judged: Judged) -> list[float]:
    """1 where the class judged for has the highest logit, else 0: without removal, and after each step."""
    logits = np.concatenate([judged.case.logits[None], judged.logits])
    return [float(leader == judged.target) for leader in logits.argmax(-1)]


def _area_under_hits(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """100 x the area under the share of hits, by trapezoids over [0, 0.9]."""
    return np.asarray(100 * np.trapezoid(curve, TENTHS, axis=-1))


_perturbation = partial(
    Metric,
    function=_hits,
    reference="Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021",
    combine=_area_under_hits,
    baseline="black",
    curve=TENTHS,
    axis="share of pixels removed",
    default=True,
)


def _deletions(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    """The input without its highest pixels, one step more each time."""
    counts = [heatmap.size * step // STEPS for step in range(1, STEPS + 1)]
    return _in_order(case, heatmap, True, counts, baseline)


def _insertions(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    """The input with only its highest pixels, one step less each time."""
    counts = [heatmap.size - heatmap.size * step // STEPS for step in range(STEPS - 1, -1, -1)]
    return _in_order(case, heatmap, False, counts, baseline)


def _probabilities(judged: Judged) -> list[float]:
    """Of the class: of the input as it is, and after each step of removal."""
    logits = np.concatenate([judged.case.logits[None], judged.logits])
    probabilities: list[float] = judged.case.probabilities(logits)[:, judged.target].tolist()
    return probabilities


def _probabilities_of_insertion(judged: Judged) -> list[float]:
    """Of the class: with no pixel, and after each step of insertion."""
    return _probabilities(judged)[::-1]


def _area(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area under a curve over [0, 1], by trapezoids."""
    return np.asarray(np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1))


_rise = partial(
    Metric,
    reference="Petsiuk, Das, Saenko: RISE, Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018",
    combine=_area,
    curve=tuple(step / STEPS for step in range(STEPS + 1)),
)


def _patches_in_both_orders(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    """The input without 1, 2, … patches, but not all: the lowest first, then the highest first."""
    patches = _patches(heatmap.shape, case.patch_grid)
    sums = np.bincount(patches.ravel(), heatmap.ravel().astype(np.float64))
    means = sums / np.bincount(patches.ravel())
    for descending in (False, True):
        yield from removals(case, patches, order_of(case, means, descending), [*range(1, means.size)], baseline)


def _patches(size: tuple[int, ...], grid: tuple[int, int]) -> NDArray[np.intp]:
    """The index of each pixel's patch, [H, W]."""
    row, column = (np.arange(length) * count // length for length, count in zip(size, grid, strict=True))
    return row[:, None] * grid[1] + column


def _relevance_gain(judged: Judged) -> list[float]:
    """The mean logit over the curve lowest first - that over the curve highest first.

    Both curves begin with the whole input and end with none of it: these two points cancel, and count as points only.
    """
    lowest_first, highest_first = judged.logits[:, judged.target].astype(np.float64).reshape(2, -1)
    return [float((lowest_first - highest_first).sum() / (lowest_first.size + 2))]


def _tenths_in_both_orders(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    """The input without 10, 20, …, 90 % of its pixels: the lowest first, then the highest first."""
    for descending in (False, True):
        yield from _tenths(descending)(case, heatmap, baseline)


def _half_gaps(judged: Judged) -> list[float]:
    """(probability without the lowest - probability without the highest) / 2, after each tenth of the pixels."""
    lowest_first, highest_first = judged.case.probabilities(judged.logits)[:, judged.target].reshape(2, -1)
    gaps: list[float] = ((lowest_first - highest_first) / 2).tolist()
    return gaps


def _mean(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(curve.mean(axis=-1))


ROWS = (
    _perturbation(
        "perturbation_positive",
        copies=_tenths(descending=True),
        better="lower",
        summary="area under the share of images whose class stays the top one as the highest pixels go, 0 to 90 %",
    ),
    _perturbation(
        "perturbation_negative",
        copies=_tenths(descending=False),
        better="higher",
        summary="area under the share of images whose class stays the top one as the lowest pixels go, 0 to 90 %",
    ),
    _rise(
        "insertion",
        function=_probabilities_of_insertion,
        copies=_insertions,
        better="higher",
        baseline="blur",
        axis="share of pixels inserted",
        summary="area under the class's probability as the highest pixels come, from none to all",
    ),
    _rise(
        "deletion",
        function=_probabilities,
        copies=_deletions,
        better="lower",
        baseline="mean",
        axis="share of pixels removed",
        summary="area under the class's probability as the highest pixels go, from none to all",
    ),
    Metric(
        "srg",
        function=_relevance_gain,
        copies=_patches_in_both_orders,
        better="higher",
        baseline="mean",
        summary="symmetric relevance gain: the class's logit as patches go, lowest first, less the same highest first",
        reference="Bluecher, Vielhaben, Strodthoff: Decoupling Pixel Flipping and Occlusion Strategy for Consistent "
        "XAI Benchmarks, TMLR 2024; Achtibat et al.: AttnLRP, ICML 2024",
    ),
    Metric(
        "road",
        function=_half_gaps,
        copies=_tenths_in_both_orders,
        better="higher",
        baseline="noisy-linear",
        combine=_mean,
        curve=TENTHS[1:],
        axis="share of pixels removed",
        summary="half of the class's probability without the lowest pixels, less the same without the highest",
        reference="Rong et al.: A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022",
    ),
)
