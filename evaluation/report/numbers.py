"""Numbers as tables show them: as many digits as their intervals warrant, the same for all rows of a column."""

import math
from collections.abc import Callable, Iterable
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line has these tables, and is ready before NumPy would be
    from onnxplain.evaluation.statistics import Score, Verdict

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
"""Behind a metric's name, which way is better."""
SIGNS: dict["Verdict", str] = {"cannot be told": "≈", "worse": "!"}
"""Behind a method's value, that a yardstick is as good, or better."""
NONE = "–"
SMALL, LARGE = 1e-3, 1e5  # beyond these, numbers are shown with exponents
MOST = 4  # digits behind the point


def formatter(scores: Iterable["Score"]) -> Callable[[float], str]:
    """What writes the numbers of a metric's column, from its scores."""
    scores = list(scores)
    values = [abs(score.value) for score in scores if math.isfinite(score.value) and score.value]
    widths = [half for half in map(half_width, scores) if math.isfinite(half) and half]
    exponents = bool(values) and not SMALL <= median(values) < LARGE
    digits = min(MOST, max(0, 1 - math.floor(math.log10(median(widths))))) if widths else 3

    def write(value: float) -> str:
        if not math.isfinite(value):
            return NONE
        if exponents and value == 0:
            return "0"
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e") if exponents else f"{value:.{digits}f}"

    return write


def cost_text(cost: float | None) -> str:
    """What a map costs, in runs for logits only; nothing for what has no cost, as yardsticks."""
    return "" if cost is None else f"{cost:.0f}" if cost >= 100 else f"{cost:.1f}"


def half_width(score: "Score") -> float:
    """Half of the interval."""
    return (score.high - score.low) / 2
