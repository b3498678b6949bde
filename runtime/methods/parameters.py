"""The parameters of the methods: the type, default and valid values of each.

The command explain makes its options of this table, also for its help, so nothing is imported here but what Python has.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

HEAD_FUSIONS = ("mean", "max", "min")
NORMS = ("l1", "l2")
BASELINES = ("black", "mean")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        name: The keyword argument of the method's function.
        type: Integral, Real or str.
        default: Its value where none is given.
        valid: Which values are valid, in words, with {layers} for the model's number of layers L and {last} for L - 1.
        check: The same as a function of a value and L.
        summary: What the parameter does, in a few words; the option's help.
        choices: All values, where they are names.
    """

    name: str
    type: type
    default: Any
    valid: str
    check: Callable[[Any, int], bool]
    summary: str
    choices: tuple[str, ...] = ()


def _choice(name: str, values: tuple[str, ...], summary: str) -> Parameter:
    """The first value is the default."""
    return Parameter(
        name, str, values[0], f"one of {', '.join(values)}", lambda value, layers: value in values, summary, values
    )


def _count(name: str, default: int, summary: str, least: int = 1, most: int | None = None) -> Parameter:
    valid = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
    return Parameter(
        name,
        Integral,
        default,
        valid,
        lambda value, layers: least <= value <= (value if most is None else most),
        summary,
    )


# By name, in the order in which options are listed. Methods that have a parameter of the same name share it.
PARAMETERS: dict[str, Parameter] = {
    each.name: each
    for each in (
        _choice("head_fusion", HEAD_FUSIONS, "how the heads of a layer become one matrix"),
        Parameter(
            "discard_ratio",
            Real,
            0.0,
            "a number of at least 0 and below 1",
            lambda value, layers: 0 <= value < 1,
            "share of each fused matrix, lowest entries first, that is set to zero",
        ),
        Parameter(
            "start_layer",
            Integral,
            0,
            "a layer number counted from 0 (this model has layers 0 to {last})",
            lambda value, layers: 0 <= value < layers,
            "the first layer that counts, from 0",
        ),
        Parameter(
            "layer",
            Integral,
            -1,
            "a layer number counted from 0, or from the end as -1, -2, … (this model has layers 0 to {last})",
            lambda value, layers: -layers <= value < layers,
            "the layer that counts, from 0, or from the end as -1, -2, …",
        ),
        Parameter(
            "layers",
            Integral,
            0,
            "how many of the last layers count, 0 for all (this model has {layers})",
            lambda value, layers: 0 <= value <= layers,
            "how many of the last layers count, 0 for all",
        ),
        _choice(
            "norm",
            NORMS,
            "how large a head's gradient is: the sum of absolute values (l1) or the root of the sum of squares (l2)",
        ),
        _count("steps", 32, "points on the way from the baseline to the image"),
        _choice(
            "baseline", BASELINES, "where the way begins: a black image, or one of the preprocessing's mean colour"
        ),
        _count("samples", 25, "how many noisy copies of the image"),
        Parameter(
            "noise",
            Real,
            0.15,
            "a finite number of at least 0",
            lambda value, layers: 0 <= value < math.inf,
            "standard deviation of the noise, as a share of the range of the image's values",
        ),
        _count("masks", 1000, "how many random masks"),
        _count("cells", 7, "rows and columns of the grid that a mask is made from", most=256),
        Parameter(
            "probability",
            Real,
            0.5,
            "a number above 0 and at most 1",
            lambda value, layers: 0 < value <= 1,
            "how likely a cell of a mask shows the image",
        ),
        _count("seed", 0, "seed of the random numbers", least=0),
    )
}
