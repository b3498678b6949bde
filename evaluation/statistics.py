"""What the metrics say of each method, how sure that is, and which methods differ: bootstrap over images.

Images are drawn with replacement, each with all its classes, and every method and yardstick is measured on the same
draws, so that a difference of two methods is that of pairs (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 8 and 13).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .metrics.metric import Metric
from .results import OTHER_CLASS, YARDSTICKS, ImageResult, Results

Subset = Literal["all", "right"]
Verdict = Literal["better", "worse", "cannot be told"]

RESAMPLES = 2000
LEVEL = 0.95
COLUMNS = 256  # parts that are resampled at once
ROUNDING = 1e-9  # share of the values by which two methods with the same maps may seem to differ


@dataclass(frozen=True)
class Score:
    """What a metric says of a method.

    Attributes:
        value: The metric over all maps of the subset; NaN if it has none for them.
        low: Where the 95 % interval of the value begins; NaN if there are fewer than two images.
        high: Where it ends.
        images: How many images it is measured on.
        maps: How many maps, one for each class of each image.
        means: The means of the metric's parts.
        rank: 1 for the best method; None for yardsticks, and where no way is better.
    """

    value: float
    low: float
    high: float
    images: int
    maps: int
    means: tuple[float, ...]
    rank: int | None


@dataclass(frozen=True)
class Comparison:
    """Two methods, or a method and a yardstick, on the maps that both have.

    Attributes:
        difference: The first one's value less the other's.
        low: Where the 95 % interval of the difference begins; NaN if there are fewer than two images.
        high: Where it ends.
        images: How many images they share.
        verdict: Whether the first is better or worse; "cannot be told" if the interval holds 0.
    """

    difference: float
    low: float
    high: float
    images: int
    verdict: Verdict


@dataclass(frozen=True)
class Statistics:
    """All that is told of an evaluation.

    Attributes:
        methods: The methods, in the order in which they were asked for.
        yardsticks: The yardsticks, those of the methods' own last.
        metrics: The metrics that were measured, in the order of the table.
        images: How many images each subset has; "right", those whose top-1 class is a label, is missing if no image has
            labels.
        scores: By subset, metric and method.
        comparisons: By subset, metric, method and other: each method with each other method, with the yardsticks and
            with its own map of another class. There are none for metrics of which no way is better.
    """

    methods: tuple[str, ...]
    yardsticks: tuple[str, ...]
    metrics: tuple[str, ...]
    images: Mapping[Subset, int]
    scores: Mapping[tuple[Subset, str, str], Score]
    comparisons: Mapping[tuple[Subset, str, str, str], Comparison]

    def best(self, subset: Subset, metric: str) -> str | None:
        """The method of rank 1, if the metric has ranks."""
        scores = ((name, self.scores.get((subset, metric, name))) for name in self.methods)
        return next((name for name, score in scores if score and score.rank == 1), None)

    def is_top(self, subset: Subset, metric: str, method: str) -> bool:
        """Whether the method is the best one, or cannot be told from it."""
        best = self.best(subset, metric)
        comparison = self.comparisons.get((subset, metric, method, str(best)))
        return method == best or (comparison is not None and comparison.verdict == "cannot be told")

    def verdicts(self, subset: Subset, metric: str, method: str) -> dict[str, Verdict]:
        """By yardstick, whether the method is better; "other_class:" stands for its own."""
        yardsticks = {**{name: name for name in YARDSTICKS}, OTHER_CLASS: OTHER_CLASS + method}
        found = {short: self.comparisons.get((subset, metric, method, name)) for short, name in yardsticks.items()}
        return {short: comparison.verdict for short, comparison in found.items() if comparison is not None}


def summarize(results: Results, metrics: Mapping[str, Metric], resamples: int = RESAMPLES) -> Statistics:
    """Compute values, intervals, ranks and comparisons.

    Args:
        results: What was measured.
        metrics: The metrics by name, at least those that were measured.
        resamples: How often the images are drawn; with `results.run["seed"]`, so that the same results always give the
            same statistics.
    """
    seen = {(item.method, item.metric) for image in results.images for item in image.measured}
    measured = {method for method, _ in seen}
    methods = tuple(name for name in results.run["methods"] if name in measured)
    own = (OTHER_CLASS + name for name in methods)
    yardsticks = tuple(name for name in (*YARDSTICKS, *own) if name in measured)
    names = tuple(name for name in metrics if name in {metric for _, metric in seen})
    subsets: dict[Subset, list[ImageResult]] = {"all": list(results.images)}
    if any(image.right is not None for image in results.images):
        subsets["right"] = [image for image in results.images if image.right]
    weights = _resamples(int(results.run["seed"]), resamples)
    scores: dict[tuple[Subset, str, str], Score] = {}
    comparisons: dict[tuple[Subset, str, str, str], Comparison] = {}
    for subset, images in subsets.items():
        for name in names:
            table = _Table.of(images, metrics[name], (*methods, *yardsticks), weights)
            scores |= {(subset, name, key): score for key, score in table.scores(methods).items()}
            pairs = _pairs(methods, yardsticks) if metrics[name].better != "neither" else ()
            comparisons |= {(subset, name, *pair): found for pair, found in table.compare(pairs).items()}
    counts = {subset: len(images) for subset, images in subsets.items()}
    return Statistics(methods, yardsticks, names, counts, scores, comparisons)


def _pairs(methods: Sequence[str], yardsticks: Sequence[str]) -> list[tuple[str, str]]:
    """Each method with each other, with the yardsticks, and with its own map of another class."""
    others = [name for name in yardsticks if not name.startswith(OTHER_CLASS)]
    return [
        (method, other)
        for method in methods
        for other in (*methods, *others, *({OTHER_CLASS + method} & set(yardsticks)))
        if other != method
    ]


def _resamples(seed: int, resamples: int) -> Callable[[int], NDArray[np.float64]]:
    """A function of a number of images: how often each is drawn [1 + resamples, images], the first time each once."""

    @cache
    def draw(images: int) -> NDArray[np.float64]:
        drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
        return np.concatenate([np.ones((1, images)), drawn])

    return draw


@dataclass(frozen=True)
class _Table:
    """One metric on a subset of the images.

    Attributes:
        metric: The metric.
        names: The methods and yardsticks.
        parts: [cases, names, parts]; a case is a class of an image.
        present: [cases, names], whether that was measured.
        image: [cases], the number of the image.
        weights: See `_resamples`.
        known: What `sampled` has computed.
    """

    metric: Metric
    names: tuple[str, ...]
    parts: NDArray[np.float64]
    present: NDArray[np.bool_]
    image: NDArray[np.intp]
    weights: Callable[[int], NDArray[np.float64]]
    known: dict[bytes, tuple[NDArray[np.float64], NDArray[np.float64]]]

    @classmethod
    def of(
        cls,
        images: Iterable[ImageResult],
        metric: Metric,
        names: tuple[str, ...],
        weights: Callable[[int], NDArray[np.float64]],
    ) -> "_Table":
        """Take the metric's parts out of the results."""
        cases: dict[tuple[int, int], int] = {}
        places, values = [], []
        columns = {name: number for number, name in enumerate(names)}
        for number, image in enumerate(images):
            for item in image.measured:
                if item.metric == metric.name and item.method in columns:
                    places.append((cases.setdefault((number, item.target), len(cases)), columns[item.method]))
                    values.append(item.parts)
        parts = np.zeros((len(cases), len(names), len(values[0]) if values else 1))
        present = np.zeros(parts.shape[:2], bool)
        if places:
            rows, methods = np.array(places).T
            parts[rows, methods], present[rows, methods] = values, True
        return cls(metric, names, parts, present, np.array([number for number, _ in cases], np.intp), weights, {})

    def sampled(self, rows: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The metric on these cases as they are, and on each resample of their images.

        Returns:
            Values [1 + resamples, names] and, of the cases as they are, means of the parts [names, parts]; NaN for
            those that were not measured on all of the cases.
        """
        if rows.tobytes() not in self.known:
            self.known[rows.tobytes()] = self._sampled(rows)
        return self.known[rows.tobytes()]

    def _sampled(self, rows: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        numbers, place = np.unique(self.image[rows], return_inverse=True)
        sums = np.zeros((len(numbers), *self.parts.shape[1:]))
        np.add.at(sums, place, self.parts[rows])
        weights = self.weights(len(numbers))
        counts = (weights @ np.bincount(place))[:, None, None]
        complete = np.flatnonzero(self.present[rows].all(axis=0))
        values = np.full((len(weights), len(self.names)), np.nan)
        means = np.full(self.parts.shape[1:], np.nan)
        step = max(1, COLUMNS // sums.shape[2])
        for begin in range(0, len(complete), step):
            some = complete[begin : begin + step]
            chosen = sums[:, some]
            averages = (weights @ chosen.reshape(len(numbers), -1)).reshape(-1, *chosen.shape[1:]) / counts
            means[some] = averages[0]
            with np.errstate(all="ignore"):  # a ratio of nothing to nothing is NaN
                values[:, some] = self.metric.combine(averages)
        return values, means

    def scores(self, methods: Sequence[str]) -> dict[str, Score]:
        """By name; ranks only for the methods."""
        found = {}
        for column, name in enumerate(self.names):
            rows = self.present[:, column]
            if rows.any():
                values, means = self.sampled(rows)
                images = len(np.unique(self.image[rows]))
                low, high = _interval(values[1:, [column]], images)
                of_parts = tuple(means[column].tolist())
                value = float(values[0, column])
                found[name] = Score(value, low.item(), high.item(), images, int(rows.sum()), of_parts, None)
        if self.metric.better == "neither":
            return found
        sign = 1 if self.metric.better == "lower" else -1
        ranked = sorted(
            (name for name in methods if name in found and not np.isnan(found[name].value)),
            key=lambda name: sign * found[name].value,
        )
        return found | {name: replace(found[name], rank=place) for place, name in enumerate(ranked, 1)}

    def compare(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Comparison]:
        """Each pair that has values on cases in common."""
        alike: dict[bytes, list[tuple[str, str]]] = {}
        for pair in pairs:
            alike.setdefault(self._common(pair).tobytes(), []).append(pair)
        found: dict[tuple[str, str], Comparison] = {}
        for group in alike.values():
            rows = self._common(group[0])
            if not rows.any():
                continue
            values, _ = self.sampled(rows)
            images = len(np.unique(self.image[rows]))
            first, other = (values[:, [self.names.index(name) for name in side]] for side in zip(*group, strict=True))
            differences = first - other
            low, high = _interval(differences[1:], images)
            slack = ROUNDING * np.maximum(abs(first[0]), abs(other[0]))
            for number, pair in enumerate(group):
                if np.isnan(differences[0, number]):
                    continue
                verdict = self._verdict(low[number], high[number], slack[number])
                numbers = (differences[0, number].item(), low[number].item(), high[number].item())
                found[pair] = Comparison(*numbers, images, verdict)
        return {pair: found[pair] for pair in pairs if pair in found}

    def _common(self, pair: tuple[str, str]) -> NDArray[np.bool_]:
        """[cases]: which both have."""
        first, other = (self.present[:, self.names.index(name)] for name in pair)
        return first & other

    def _verdict(self, low: float, high: float, slack: float) -> Verdict:
        if low > slack:
            return "better" if self.metric.better == "higher" else "worse"
        if high < -slack:
            return "better" if self.metric.better == "lower" else "worse"
        return "cannot be told"


def _interval(values: NDArray[np.float64], images: int) -> NDArray[np.float64]:
    """Where the interval of each column of [resamples, columns] begins and ends: [2, columns]."""
    ends = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values).all(axis=0)
    if images > 1 and known.any():
        ends[:, known] = np.nanquantile(values[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends
