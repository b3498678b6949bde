"""Names that there are not, and those that may have been meant."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

COUNT = 3  # of the names that are proposed
FEW = 5  # names that are all listed


def nearest(given: str, names: Iterable[str]) -> list[str]:
    """The names that are most like the one given, whatever the case; if none is, those that it is a part of."""
    wanted = given.casefold()
    known = {name.casefold(): name for name in names}  # a dictionary keeps the order, a set does not
    close = difflib.get_close_matches(wanted, known, n=COUNT)
    close = close or [name for name in known if wanted and wanted in name][:COUNT]
    return [known[name] for name in close]


def did_you_mean(names: Iterable[str]) -> str:
    """The question."""
    return f"did you mean {' or '.join(map(repr, names))}?"


def no_such(what: str, given: object, names: Iterable[str], others: Mapping[str, Sequence[str]] | None = None) -> str:
    """What an error says of a name that is none of these.

    Args:
        what: The kind of thing that is named, such as "pass".
        given: The name.
        names: Those that there are: listed if they are few or none is like the one given.
        others: By a name that people use, in lower case, those of ours that they mean by it.
    """
    names = tuple(names)
    close = (others or {}).get(str(given).casefold()) or nearest(str(given), names)
    listed = f"; there are: {', '.join(names)}" if len(names) <= FEW or not close else ""
    return f"there is no {what} {given!r}{listed}" + (f"; {did_you_mean(close)}" if close else "")


def or_rather(given: object, names: Iterable[str]) -> str:
    """To be added to what says which names there are: those that are like the one given."""
    close = nearest(str(given), names)
    return f"; {did_you_mean(close)}" if close else ""
