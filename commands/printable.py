"""Text of files, models and images, made fit for a terminal."""

import re

# What moves the cursor, changes colours or titles, ends a line, or shows letters in another order than they are in: the
# control characters (C0, DEL, C1), line and paragraph separators, marks and embeddings of direction; halves of letters,
# which no encoding knows; and what is no letter, which XML does not allow.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    r"""The text on one line, with every such character as its escape, such as \x1b; all other letters as they are."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
