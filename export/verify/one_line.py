"""Errors of code that may raise anything, such as that of models, said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnxplain.contract import OnnxplainError
from onnxplain.contract.errors import one_line


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Whatever goes wrong inside, as an OnnxplainError that begins with ``what``."""
    try:
        yield
    except OnnxplainError:
        raise
    except Exception as error:
        raise OnnxplainError(f"{what}: {one_line(error)}") from error
