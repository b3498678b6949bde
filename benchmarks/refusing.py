"""What is asked for and cannot be measured is refused in one line, with status 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import timm
import typer

from onnxplain.contract.errors import OnnxplainError


def refuse(message: object) -> NoReturn:
    """Print the message on standard error, and end with status 2."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(2)


@contextmanager
def refusing() -> Iterator[None]:
    """Refuse what raises an OnnxplainError."""
    try:
        yield
    except OnnxplainError as error:
        refuse(error)


def check_models(names: list[str]) -> None:
    """Refuse names that timm does not have."""
    for name in names:
        if not timm.is_model(name):
            refuse(f"timm has no model {name!r}")
