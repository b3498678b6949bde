"""What an evaluation found: for each image, class, method and metric the parts of the metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

YARDSTICKS = ("random", "constant", "gaussian")
"""Maps that explain nothing, by which metrics are judged; and for each method:"""
OTHER_CLASS = "other_class:"
"""Before a method's name, its map for another class, judged for this one."""


class Measured(NamedTuple):
    """One metric of one map.

    Attributes:
        target: The index of the class that the map was judged for.
        method: The method's name; or a yardstick's: "random", "constant", "gaussian", or "other_class:<method>", which
            is the method's map for another class, judged for this one.
        metric: The metric's name.
        parts: See `Metric`.
    """

    target: int
    method: str
    metric: str
    parts: tuple[float, ...]


@dataclass(frozen=True)
class ImageResult:
    """What was measured on one image.

    Attributes:
        name: The sample's.
        right: Whether the top-1 class is one of its labels; None if it has none.
        predicted: The top-1 class.
        measured: One for each class, method and metric.
        runs: How many runs for logits only it took.
        seconds: How long it took, with all maps and metrics.
        agreement: How far the maps of the methods agree, the mean of Spearman's correlation over all pairs; None
            without a pair.
    """

    name: str
    right: bool | None
    predicted: int
    measured: tuple[Measured, ...]
    runs: int
    seconds: float
    agreement: float | None = None


@dataclass(frozen=True)
class Results:
    """An evaluation.

    Attributes:
        run: What was run, as JSON has it: "model", "digest", "data", "methods" (by name the arguments), "metrics",
            "baselines" (by metric), "target" ("true" or "predicted"), "seed", "versions", "labels" (of all classes).
        images: The results, in the order of the data.
        errors: By the sample's name, why it could not be evaluated.
        costs: By method, what a map costs, in runs of the artifact for logits only.
    """

    run: Mapping[str, Any]
    images: tuple[ImageResult, ...]
    errors: Mapping[str, str]
    costs: Mapping[str, float]
