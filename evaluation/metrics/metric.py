"""What a metric is: one row of the table in table.py; and what it is given: a case, and a map to judge."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.preprocessing import Preprocessing

Pixels = NDArray[np.float32]
"""A model's input, [3, H, W], preprocessed."""
Heatmap = NDArray[np.float32]
"""A map over the model's input, [H, W], unscaled."""


@dataclass(frozen=True)
class Case:
    """One image, as the model takes it, and what the model says of it.

    Attributes:
        pixels: The model's input, float32 [3, H, W].
        logits: float32 [classes].
        probabilities: From logits [..., classes] to probabilities, float64 [..., classes]: softmax or sigmoid.
        preprocessing: The artifact's; black is (0 - mean) / std of it, the mean is 0.
        patch_grid: Rows and columns of patches.
        seed: Of what is drawn at random for this image; the same for all methods.
    """

    pixels: Pixels
    logits: NDArray[np.float32]
    probabilities: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    preprocessing: Preprocessing
    patch_grid: tuple[int, int]
    seed: int

    def random(self, purpose: int) -> np.random.Generator:
        """Random numbers of this image for one purpose, numbered so that no two share them."""
        return np.random.default_rng([self.seed, purpose])


@dataclass(frozen=True)
class Judged:
    """One map, to be judged for one class.

    Attributes:
        case: The image.
        heatmap: The map, float32 [H, W].
        target: The class that it is judged for, an index.
        method: The method's name, or a yardstick's.
        logits: What the model says of the copies that the metric asked for, float32 [copies, classes], in their order.
        mask: Where the objects of the class are in the model's input, uint8 [H, W] of 0, 1 and 255 (ignored); None if
            that is not known.
        other: The same method's map for another class, float32 [H, W]; None for methods without classes.
        maps: The same method's maps for the same class of other inputs, which are given with a name: inputs of one name
            are the same for all methods and classes of the image, so that one run serves all. None if the method takes
            many runs for a map.
        own_maps: The same for inputs that are this map's own.
    """

    case: Case
    heatmap: Heatmap
    target: int
    method: str
    logits: NDArray[np.float32]
    mask: NDArray[np.uint8] | None
    other: Heatmap | None
    maps: Callable[[str, Callable[[], Sequence[Pixels]]], Sequence[Heatmap]] | None
    own_maps: Callable[[Sequence[Pixels]], Sequence[Heatmap]] | None


Copies = Callable[[Case, Heatmap, str], Iterable[Pixels]]
"""From a case, a map and the name of a baseline to changed copies of the input, whose logits a metric then reads."""


def _first(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return means[..., 0]


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    A metric makes of each map some numbers, its parts: often one, of a curve one for each of its points. What it says
    of many maps is `combine` of the means of the parts, so that areas are those of the mean curve, and ratios those of
    sums.

    Attributes:
        name: By which users choose it.
        function: From a map to its parts, always as many; None where the metric does not apply to it.
        better: Whether "higher" or "lower" values are better; "neither" for what only describes a map.
        summary: What it measures, in one line.
        reference: Where it was published.
        combine: From the means of the parts, [..., parts], to the value, [...].
        copies: The copies of the input whose logits it reads, if it does. Metrics with the same function here and the
            same baseline share the runs.
        copies_per_map: Whether the copies depend on the map; else they are run once for all maps of an image.
        baseline: What replaces removed pixels unless the user says otherwise, a name in BASELINES; None if no pixels
            are removed, or by no choice.
        needs: Of what the metric makes its judgement: "mask", "other" (a map for another class), "maps" (of other
            inputs).
        curve: Where the parts lie along the axis of a curve; empty if they are none.
        axis: What the curve's axis is, such as "share of pixels removed".
        only: The methods that it applies to; empty for all.
        default: Whether it is measured unless others are named.
    """

    name: str
    function: Callable[[Judged], Sequence[float] | None]
    better: Literal["higher", "lower", "neither"]
    summary: str
    reference: str
    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]] = field(default=_first)
    copies: Copies | None = None
    copies_per_map: bool = True
    baseline: str | None = None
    needs: frozenset[Literal["mask", "other", "maps"]] = frozenset()
    curve: tuple[float, ...] = ()
    axis: str = ""
    only: tuple[str, ...] = ()
    default: bool = False

    def value(self, parts: Any) -> float:
        """The value of one map, from its parts [parts]."""
        return float(self.combine(np.asarray(parts, dtype=np.float64)))
