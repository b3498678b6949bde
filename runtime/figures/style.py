"""What a user chooses about a figure's looks."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import no_such
from onnxplain.contract.validation import SIDE

LAYOUTS = ("side", "overlay", "map", "bare")
SCALES = ("each", "shared")
OPACITY = 0.85  # the image has to be visible below the brightest colour as well


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "opacity": ("a number from 0 to 1", lambda value: _is(Real, value) and 0 <= value <= 1),
    "contour": (
        "a number above 0 and below 1",
        lambda value: value is None or (_is(Real, value) and 0 < value < 1),
    ),
    "max_size": (
        f"an integer from 1 to {SIDE}",
        lambda value: value is None or (_is(Integral, value) and 1 <= value <= SIDE),
    ),
}


@dataclass(frozen=True)
class Style:
    """How explanations are drawn.

    Attributes:
        layout: `side`, the image and the map over it side by side; `overlay`, the map over the image; `map`, the
            map alone, each with a title and a colour bar; or `bare`, the map over the image and nothing else.
        colormap: A name that the package cmap knows; None for one that suits the map: from dark red to yellow, or from
            blue over white to red where values below zero count against the class.
        opacity: Of the colour where the map is highest, from 0 to 1.
        contour: The share of the scale, between 0 and 1, around which a line is drawn; None for no line.
        scale: `each`, every map's colours span its own values; or `shared`, those of all maps of the figure.
        max_size: The longer side of the image in the figure, in pixels, if the image is larger; None for the
            layout's own limit.

    Raises:
        OnnxplainError: A value is not valid; the message names it.
    """

    layout: str = "side"
    colormap: str | None = None
    opacity: float = OPACITY
    contour: float | None = None
    scale: str = "each"
    max_size: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (("layout", LAYOUTS), ("scale", SCALES)):
            if getattr(self, name) not in choices:
                raise OnnxplainError(no_such(name, getattr(self, name), choices))
        for name, (valid, check) in _RULES.items():
            if not check(getattr(self, name)):
                raise OnnxplainError(f"`{name}` must be {valid}, got {getattr(self, name)!r}")
        if self.colormap is not None:
            from .colours import check_colormap

            check_colormap(self.colormap)


def as_style(style: object) -> Style:
    """The style, or the default one for None; raises OnnxplainError if it is something else."""
    if style is None:
        return Style()
    if not isinstance(style, Style):
        raise OnnxplainError(f"a style must be a Style, such as Style(layout='map'), got {style!r}")
    return style
