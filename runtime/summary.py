"""What an explanation says in numbers and texts that JSON can hold.

Boxes are [left, top, right, bottom] in pixels of the image, as Pillow has them: the last two are the first column and
the first row beyond.
"""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from .images.geometry import Window
from .placed_levels import PlacedLevels

if TYPE_CHECKING:
    from .explanation import Explanation


def about_image(explanation: "Explanation") -> dict[str, Any]:
    """What is the same for all explanations of one image by one model."""
    rows, columns = explanation.tokens.shape
    return {
        "model": explanation.model,
        "precision": explanation.precision,
        "width": explanation.image.width,
        "height": explanation.image.height,
        "seen": _box(explanation.placement.seen),
        "patch_rows": rows,
        "patch_columns": columns,
        "predictions": [
            {"index": index, "label": label, "probability": probability}
            for index, label, probability in explanation.predictions
        ],
    }


def about_map(explanation: "Explanation") -> dict[str, Any]:
    """The rest: the method, the class, and where the map is high."""
    levels = PlacedLevels(explanation)
    peak = levels.peak()
    return {
        "method": explanation.method,
        "parameters": {name: _plain(value) for name, value in explanation.parameters.items()},
        "target": explanation.target,
        "label": explanation.label,
        "score": explanation.score,
        "probability": explanation.probability,
        "maximum": None if peak is None else [peak[1], peak[0]],
        "upper_fifth": levels.upper_fifth(),
        "resolution": explanation.resolution,
    }


def _box(window: Window) -> list[int]:
    rows, columns = window
    return [columns.start, rows.start, columns.stop, rows.stop]


def _plain(value: Any) -> Any:
    """A parameter's value as Python has it, whatever number type it was given as."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value
