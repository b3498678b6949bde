"""Parts of other libraries that onnxplain can do without."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from onnxplain.contract import OnnxplainWarning
from onnxplain.contract.errors import one_line


class LibraryWarning(OnnxplainWarning):
    """A library does not have something that onnxplain uses for convenience, as another version of it may not."""


@contextmanager
def convenience(without: str) -> Iterator[None]:
    """Skip what fails inside, whatever the error, with a LibraryWarning.

    Args:
        without: What the user has to do without, in words that begin the warning.
    """
    try:
        yield
    except Exception as error:
        warnings.warn(f"{without} ({type(error).__name__}: {one_line(error)})", LibraryWarning, stacklevel=3)
