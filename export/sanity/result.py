"""What the test found, how sure that is, and what it says of each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxplain.evaluation.statistics import LEVEL, RESAMPLES

METRICS = ("spearman", "spearman_absolute", "ssim", "emprt")
"""What is measured of each map of a model with random weights, see `similarity.compare`."""
SHIFTED = "shifted:"
"""Before a method's name: the yardstick, its maps of models with random weights, each moved to another place.

By a quarter to three quarters of each side, what leaves one side entering at the other: so they have the same values
beside the same values, and nothing in common with the trained model's maps but by chance.
"""
JUDGED = ("spearman_absolute", "ssim")
"""The metrics that the verdict is by, which the yardstick has as well."""
LIMIT = 0.1
"""By how much a map may be more alike than the yardstick: a correlation of 0.1 is a hundredth of the variance."""

Verdict = Literal["yes", "no", "cannot be told"]


class Interval(NamedTuple):
    """A mean, and its 95 % interval by bootstrap over draws of weights and over images."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class SanityResult:
    """What was measured.

    Attributes:
        run: What was run, as JSON has it: "model", "source", "sha256", "data", "methods", "draws", "seed".
        steps: The names of the steps, from the head down.
        images: The names of the images.
        targets: The class that each was explained for, the trained model's top-1 class.
        values: By method or yardstick, and metric: float64 [draws, steps, images]; NaN where there is none, as where a
            map is not finite.
        errors: By the sample's name, why it could not be explained.
    """

    run: Mapping[str, Any]
    steps: tuple[str, ...]
    images: tuple[str, ...]
    targets: tuple[int, ...]
    values: Mapping[tuple[str, str], NDArray[np.float64]]
    errors: Mapping[str, str]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, without yardsticks."""
        return tuple(dict.fromkeys(method for method, _ in self.values if not method.startswith(SHIFTED)))

    def summary(self, method: str, metric: str, step: int = -1) -> Interval:
        """The mean over draws and images after a step, by default the last: all weights are random."""
        return interval(self.values[method, metric][:, step])

    def excess(self, method: str, metric: str) -> Interval:
        """By how much more alike the maps are than those of the yardstick, all weights random; a metric of JUDGED."""
        ours, theirs = (self.values[name, metric][:, -1] for name in (method, SHIFTED + method))
        return interval(ours - theirs)

    def verdict(self, method: str) -> Verdict:
        """Whether the map depends on what the model has learnt.

        "yes" if with all weights random the maps are at most LIMIT more alike the trained model's than the yardstick
        is, by both metrics of JUDGED: the ends of both intervals are below it. "no" if an interval begins above it.
        """
        found = [self.excess(method, metric) for metric in JUDGED]
        if any(each.low > LIMIT for each in found):
            return "no"
        return "yes" if all(each.high < LIMIT for each in found) else "cannot be told"

    @property
    def missing(self) -> dict[str, int]:
        """By method, how many maps of models with random weights were not finite, of those that have any such."""
        counts = {name: int(np.isnan(self.values[name, "spearman"]).sum()) for name in self.methods}
        return {name: count for name, count in counts.items() if count}


def interval(values: NDArray[np.float64]) -> Interval:
    """The mean of [draws, images], NaN left out, and its interval; draws and images are resampled independently.

    Of a single draw the interval is that over images. It is the same each time.
    """
    if np.isnan(values).all():
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(0)
    counts = [rng.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(float) for size in values.shape]
    known = (~np.isnan(values)).astype(float)
    sums, totals = (
        np.einsum("rd,di,ri->r", counts[0], each, counts[1], optimize=True) for each in (np.nan_to_num(values), known)
    )
    means = sums[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.nanmean(values)), float(low), float(high))
