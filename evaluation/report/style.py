"""How methods and yardsticks look in all plots: told apart by colour and, without it, by dashes and markers."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxplain.evaluation.results import YARDSTICKS

INK, SOFT, LINE, PAPER = "#1d1a21", "#625c69", "#dedad5", "#ffffff"
"""Text; axes and yardsticks; the grid; what is behind. The page replaces them where it is dark."""
COLOURS = ("#c2410c", "#2f6fd6", "#0b8457", "#a34fc4", "#9a6a00", "#d6336c", "#0e7f96")
"""Each has a contrast of at least 3 to 1 on white and on the dark page."""
DASHES = ((), (5, 1.6), (1.4, 1.4), (6, 1.4, 1.4, 1.4))
MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class Style:
    """The look of one method.

    Attributes:
        colour: As #rrggbb.
        dashes: Lengths of dashes and gaps; none for a solid line.
        marker: As matplotlib names it.
    """

    colour: str
    dashes: tuple[float, ...]
    marker: str


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Of the methods and the yardsticks."""
    groups = [divmod(number, len(COLOURS)) for number in range(len(methods))]
    found = {
        name: Style(COLOURS[colour], DASHES[group % len(DASHES)], MARKERS[group % len(MARKERS)])
        for name, (group, colour) in zip(methods, groups, strict=True)
    }
    grey = {name: Style(SOFT, dashes, "x") for name, dashes in zip(YARDSTICKS, DASHES[1:], strict=True)}
    return found | grey
