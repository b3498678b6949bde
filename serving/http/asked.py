"""What requests say of methods, targets and maps, whichever protocol they come by: checked for its form."""

from collections.abc import Mapping
from typing import Any

from onnxplain.contract.names import or_rather
from onnxplain.contract.validation import is_int
from onnxplain.runtime.methods.parameters import PARAMETERS

from .bodies import kind
from .errors import refused
from .questions import MAPS

LONGEST = 200
"""Characters of a method with its parameters, or of a label."""


def check_names(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    """Raise HttpError if there is a name that is not known; `what` names them, in the plural."""
    for name in given:
        if name in known:
            continue
        if name in PARAMETERS:
            raise refused(f"{name} is a parameter of methods; write it behind the method: method=NAME:{name}=VALUE")
        listed = f"{what} are {', '.join(known)}" if known else f"there are no {what}"
        raise refused(f"there is no {name[:LONGEST]!r} here; {listed}{or_rather(name[:LONGEST], known)}")


def methods_of(given: Any) -> tuple[str, ...]:
    """Names of methods: one, or a list of them; none for the model's best."""
    if given is None:
        return ()
    listed = given if isinstance(given, list) else [given]
    for each in listed:
        if not isinstance(each, str) or not 0 < len(each) <= LONGEST:
            said = f"a text of {len(each)} characters" if isinstance(each, str) else kind(each)
            raise refused(f"a method must be a name, with parameters behind it or without, got {said}")
    return tuple(listed)


def targets_of(given: Any) -> tuple[int | str, ...]:
    """Targets: one, or a list of them; none for the top class."""
    if given is None:
        return (-1,)
    listed = given if isinstance(given, list) else [given]
    for each in listed:
        if not (isinstance(each, str) and len(each) <= LONGEST) and not is_int(each, -(2**31), 2**31 - 1):
            said = f"a text of {len(each)} characters" if isinstance(each, str) else kind(each)
            raise refused(f"a target must be a class's index or label, or a rank, got {said}")
    return tuple(listed)


def map_of(given: Any) -> tuple[str, ...]:
    """Which map is asked for: none, or one of MAPS."""
    if given is None or given == "none":
        return ()
    if given not in MAPS:
        raise refused(f"map must be one of none, {', '.join(MAPS)}")
    return (given,)


def top_k_of(given: Any, most: int) -> int:
    """How many predictions are asked for."""
    if not is_int(given, 1, 2**31 - 1):
        raise refused(f"top_k must be a whole number of at least 1, the model has {most} classes")
    return min(int(given), most)
