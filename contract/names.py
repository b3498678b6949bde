"""Messages about names that do not exist, which propose the names that may have been meant."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

MAX_PROPOSED = 3  # of the names that are like the one given
MAX_LISTED = 5  # names that an error lists in full beside a proposal


def nearest(given: str, names: Iterable[str]) -> list[str]:
    """The names that are most like the one given, best first, whatever the case.

    Returns:
        Up to `MAX_PROPOSED` of the names; if none is alike, those that contain the one given.
    """
    wanted = given.casefold()
    known = {name.casefold(): name for name in names}  # a dictionary keeps the order, a set does not
    close = difflib.get_close_matches(wanted, known, n=MAX_PROPOSED)
    close = close or [name for name in known if wanted and wanted in name][:MAX_PROPOSED]
    return [known[name] for name in close]


def did_you_mean(names: Iterable[str]) -> str:
    """The question "did you mean 'a' or 'b'?"."""
    return f"did you mean {' or '.join(map(repr, names))}?"


def no_such(what: str, given: object, names: Iterable[str], others: Mapping[str, Sequence[str]] | None = None) -> str:
    """The message that there is no such name.

    Args:
        what: What the name would be of, such as "method".
        given: The name that does not exist.
        names: Those that do. They are listed if they are few, or if none of them is like the one given.
        others: For names in lower case that people use and that are not like ours, those of ours that they mean.
    """
    names = tuple(names)
    close = (others or {}).get(str(given).casefold()) or nearest(str(given), names)
    listed = f"; there are: {', '.join(names)}" if len(names) <= MAX_LISTED or not close else ""
    return f"there is no {what} {given!r}{listed}" + (f"; {did_you_mean(close)}" if close else "")


def or_rather(given: object, names: Iterable[str]) -> str:
    """The end of a message that lists which names there are: those that are like the one given, or nothing."""
    close = nearest(str(given), names)
    return f"; {did_you_mean(close)}" if close else ""
