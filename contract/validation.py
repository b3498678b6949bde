"""Rules for the fields of the records that an artifact holds, and the check of a record by them."""

import sys
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

from .errors import OnnxplainError

# Far beyond any model's, and such that nothing overflows or fills the memory
SIDE = 8192  # of the model's input, in pixels
COUNT = 10_000  # of layers, heads, tokens before the patches

# A field's rule: what it must be, in words, and the check. Lists count as tuples: JSON knows no others.
Rule = tuple[str, Callable[[Any], bool]]


def is_int(value: Any, least: int, most: float = COUNT) -> bool:
    """Whether it is an integer within these bounds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_count(value: Any) -> bool:
    """Whether it is an integer of at least 1, of Python or of NumPy; true is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def is_number(value: Any, least: float = -sys.float_info.max, most: float = sys.float_info.max) -> bool:
    """Whether it is a finite number within these bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_tuple(value: Any, element: Callable[[Any], bool], length: int | None = None) -> bool:
    """Whether it is a tuple of such elements, of that length or at least one."""
    right_length = isinstance(value, tuple) and (len(value) == length if length else len(value) > 0)
    return right_length and all(element(item) for item in value)


def is_list(value: Any, element: Callable[[Any], bool]) -> bool:
    """Whether it is a list or tuple of such elements."""
    return isinstance(value, list | tuple) and all(element(item) for item in value)


def is_pair(value: Any) -> bool:
    """Whether it is two integers from 1 to `SIDE`."""
    return is_tuple(value, lambda item: is_int(item, 1, SIDE), 2)


def validate(record: Any, rules: Mapping[str, Rule]) -> None:
    """Turn the record's lists into tuples and check every field, naming the one that is wrong."""
    for name, (description, check) in rules.items():
        value = getattr(record, name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(record, name, value)  # the record is frozen, and not yet in anyone's hands
        if not check(value):
            given = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
            raise OnnxplainError(f"{type(record).__name__.lower()} field {name!r} must be {description}, got {given}")
