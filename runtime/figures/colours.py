"""The colours of a map: 256 levels, each with a colour and an opacity, and the line around what is high."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import did_you_mean, nearest

LEVELS = 256
ZERO = 128  # the level of zero in signed maps, whose levels are 1 to 255
HALF = 127  # levels on either side of it
SEQUENTIAL = "cmasher:ember"  # black to red to yellow: no tint where values are low, nothing pale where they are high
DIVERGING = "matplotlib:coolwarm"
FULL = 0.6  # share of the scale from which on colours have their full opacity


@dataclass(frozen=True)
class Colours:
    """What each level of a map looks like.

    Attributes:
        palette: uint8 [256, 3], RGB.
        alpha: uint8 [256]: 0 where the image is bare.
    """

    palette: NDArray[np.uint8]
    alpha: NDArray[np.uint8]


def check_colormap(name: object) -> None:
    """Raise OnnxplainError if the package cmap has no colormap of that name."""
    names = _names()
    if not isinstance(name, str) or _plain(name.removesuffix("_r")) not in map(_plain, names):
        if isinstance(name, str) and (close := nearest(name, names)):
            raise OnnxplainError(f"there is no colormap {name!r}; {did_you_mean(close)}")
        raise OnnxplainError(
            f"there is no colormap {name!r}; the package cmap has {len(names)}, such as viridis, magma, cividis, and "
            "coolwarm for signed maps"
        )


def find_colours(name: str | None, signed: bool, opacity: float) -> Colours:
    """The colours of levels.

    The opacity grows smoothly from 0 to its full value, which it has at `FULL` of the scale: it is 3 t^2 - 2 t^3 of
    t = min(1, |value| / FULL), so that low values leave the image as it is.

    Args:
        name: Of a colormap; None for the one that suits the map.
        signed: Whether the levels go from -1 to 1, zero being `ZERO`, else from 0 to 1.
        opacity: The full opacity, from 0 to 1.
    """
    values = (np.arange(LEVELS) - ZERO) / HALF if signed else np.arange(LEVELS) / (LEVELS - 1)
    share = np.minimum(1, np.abs(values) / FULL)
    alpha = np.rint(255 * opacity * share * share * (3 - 2 * share)).astype(np.uint8)
    return Colours(_palette(name or (DIVERGING if signed else SEQUENTIAL), signed), alpha)


def levels_of(values: NDArray[Any], signed: bool) -> NDArray[np.uint8]:
    """The level of each value from 0 to 1, or if `signed` from -1 to 1; what is beyond gets the last level."""
    least, steps, zero = (-1, HALF, ZERO) if signed else (0, LEVELS - 1, 0)
    return np.asarray(np.rint(np.clip(values, least, 1) * steps) + zero, dtype=np.uint8)


def line(values: NDArray[Any], around: float, width: float) -> NDArray[np.float32]:
    """How much of each pixel a line covers that goes around what is above a value.

    The distance of a pixel's centre to the line is |value - around| over the slope there. What is within half the width
    of it is covered, pixels at the edge in part.

    Args:
        values: [rows, columns].
        around: The value.
        width: Of the line, in pixels.

    Returns:
        float32 [rows, columns], 0 to 1.
    """
    if min(values.shape) < 2:
        return np.zeros(values.shape, np.float32)
    slope = np.hypot(*np.gradient(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(slope > 0, np.abs(values - around) / slope, np.inf)
    return np.clip((width + 1) / 2 - distance, 0, 1).astype(np.float32)


@cache
def _palette(name: str, signed: bool) -> NDArray[np.uint8]:
    from cmap import Colormap  # here, because importing it takes longer than importing everything else

    reverse = name.endswith("_r")
    full = Colormap.catalog().resolve(name.removesuffix("_r")) + ("_r" if reverse else "")
    places = np.clip((np.arange(LEVELS) - ZERO) / (2 * HALF) + 0.5, 0, 1) if signed else np.linspace(0, 1, LEVELS)
    return np.rint(np.asarray(Colormap(full)(places))[:, :3] * 255).astype(np.uint8)


@cache
def _names() -> tuple[str, ...]:
    """The names of cmap's colormaps, short ones where there is one."""
    from cmap import Colormap

    return tuple(sorted(Colormap.catalog(), key=str.casefold))


def _plain(name: str) -> str:
    """A name as cmap compares it."""
    return name.lower().replace(" ", "_").replace("-", "_")
