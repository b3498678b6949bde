"""What requests say of images, methods, targets and maps, whichever protocol they come by: checked for its form."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from onnxplain.contract.names import or_rather
from onnxplain.contract.validation import is_int
from onnxplain.runtime.methods.parameters import PARAMETERS

from .bodies import kind
from .errors import refused
from .questions import MAP_SIZES

LONGEST_NAME = 200
"""Characters of a method with its parameters, or of a label."""


def check_names(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    """Raise HttpError if there is a name that is not known; `what` names them, in the plural."""
    for name in given:
        if name in known:
            continue
        if name in PARAMETERS:
            raise refused(f"{name} is a parameter of methods; write it behind the method: method=NAME:{name}=VALUE")
        listed = f"{what} are {', '.join(known)}" if known else f"there are no {what}"
        raise refused(f"there is no {name[:LONGEST_NAME]!r} here; {listed}{or_rather(name[:LONGEST_NAME], known)}")


def decoded_image(text: object) -> bytes:
    """The bytes of an image in base64.

    Raises:
        HttpError: 422, if it is none.
    """
    if not isinstance(text, str) or not text:
        raise refused(f"an image must be a text in base64, got {kind(text) if text != '' else 'an empty text'}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise refused(f"an image is not base64: {error}") from None


def methods_of(given: Any) -> tuple[str, ...]:
    """Names of methods: one, or a list of them; none for the model's best."""
    if given is None:
        return ()
    listed = given if isinstance(given, list) else [given]
    for each in listed:
        if not isinstance(each, str) or not 0 < len(each) <= LONGEST_NAME:
            said = f"a text of {len(each)} characters" if isinstance(each, str) else kind(each)
            raise refused(f"a method must be a name, with parameters behind it or without, got {said}")
    return tuple(listed)


def targets_of(given: Any) -> tuple[int | str, ...]:
    """Targets: one, or a list of them; none for the top class."""
    if given is None:
        return (-1,)
    listed = given if isinstance(given, list) else [given]
    for each in listed:
        if not (isinstance(each, str) and len(each) <= LONGEST_NAME) and not is_int(each, -(2**31), 2**31 - 1):
            said = f"a text of {len(each)} characters" if isinstance(each, str) else kind(each)
            raise refused(f"a target must be a class's index or label, or a rank, got {said}")
    return tuple(listed)


def map_of(given: Any) -> tuple[str, ...]:
    """Which map is asked for: none, or one of MAP_SIZES."""
    if given is None or given == "none":
        return ()
    if given not in MAP_SIZES:
        raise refused(f"map must be one of none, {', '.join(MAP_SIZES)}")
    return (given,)


def top_k_of(given: Any, most: int) -> int:
    """How many predictions are asked for."""
    if not is_int(given, 1, 2**31 - 1):
        raise refused(f"top_k must be a whole number of at least 1, the model has {most} classes")
    return min(int(given), most)
