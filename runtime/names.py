"""Names that there are not, and those that may have been meant."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

COUNT = 3  # of the names that are proposed


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


def no_such(what: str, given: str, names: Iterable[str], others: Mapping[str, Sequence[str]] | None = None) -> str:
    """What an error says of a name that is none of these: which are like it, or if none is, which there are.

    `others`: what is meant by names, in lower case, that people use and that are not like ours.
    """
    names = tuple(names)
    close = (others or {}).get(given.casefold()) or nearest(given, names)
    hint = did_you_mean(close) if close else f"there are: {', '.join(names)}"
    return f"there is no {what} {given!r}; {hint}"
