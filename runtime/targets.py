"""Targets, which say what class to explain: by an index, a rank or a label."""

import unicodedata
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import TargetError, one_line
from onnxplain.contract.names import did_you_mean, nearest

Target = int | str
Targets = list[Target] | list[int] | list[str] | tuple[Target, ...] | range | NDArray[np.integer[Any]]


def are_several(target: Any) -> TypeGuard[Targets]:
    """Whether it is a list, a tuple, a range or an array of one axis, and not one target."""
    return isinstance(target, list | tuple | range) or (isinstance(target, np.ndarray) and target.ndim == 1)


def resolve_target(target: Any, labels: Sequence[str]) -> int:
    """A target as the graph takes it: a class index from 0, or a rank (-1 the top-1 class, -2 the runner-up, …).

    Args:
        target: An index or a rank; or a string, which is a label in any case: the whole label, else one of its
            comma-separated synonyms, else, if no label is like that, an index or a rank in digits.
        labels: The artifact's, one for each class.

    Raises:
        TargetError: If the target names no class, or several.
    """
    if isinstance(target, str):
        found = _find_label(target, labels)
        if found is not None:
            return found
        target = _number(target, labels)
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise TargetError(
            f"a target must be a class index, a label, a rank (-1, -2, …) or a list of those, got {target!r}"
        )
    if not -len(labels) <= target < len(labels):
        raise _out_of_range(target, labels)
    return int(target)


def class_like(label: str, labels: Sequence[str]) -> int | None:
    """Another model's class in this one: the one with the same label, else the only one that shares a synonym.

    Args:
        label: The other model's; synonyms are separated by commas, and case does not matter.
        labels: This model's, one for each class.

    Returns:
        Its index; None if there is none, or several.
    """
    wanted = {_plain(part) for part in label.split(",")}
    whole = [index for index, one in enumerate(labels) if _plain(one) == _plain(label)]
    alike = whole or [
        index for index, one in enumerate(labels) if wanted & {_plain(part) for part in one.split(",")} - {""}
    ]
    return alike[0] if len(alike) == 1 else None


def _number(digits: str, labels: Sequence[str]) -> int:
    try:
        return int(digits)
    except ValueError:  # Python converts no more than 4300 digits
        raise _out_of_range(digits, labels) from None


def _out_of_range(target: object, labels: Sequence[str]) -> TargetError:
    try:
        given = one_line(target)
    except ValueError:  # a number of more digits than Python writes
        given = "with thousands of digits"
    return TargetError(f"target {given} is out of range; {_valid(labels)}")


def _valid(labels: Sequence[str]) -> str:
    return f"valid are the classes 0 to {len(labels) - 1} and the ranks -1 to {-len(labels)}"


def _find_label(query: str, labels: Sequence[str]) -> int | None:
    """The class with that label; None if there is none but the query is a number."""
    wanted = _plain(query)
    synonyms = [[_plain(part) for part in label.split(",")] for label in labels]
    whole = [index for index, label in enumerate(labels) if _plain(label) == wanted]
    matches = whole or [index for index, names in enumerate(synonyms) if wanted in names]
    if len(matches) == 1:
        return matches[0]
    if matches:
        which = ", ".join(f"{index} ({labels[index]})" for index in matches)
        raise TargetError(f"the label {query!r} is ambiguous: it names the classes {which}; give the index")
    if wanted.removeprefix("-").isdecimal():
        return None
    close = nearest(wanted, (name for names in synonyms for name in names))
    hint = did_you_mean(close) if close else _valid(labels)
    raise TargetError(f"there is no label {query!r} among the {len(labels)} classes; {hint}")


def _plain(label: str) -> str:
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())
