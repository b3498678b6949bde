"""Many pictures explained: which of them an error is about, and what can be done beside the runs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from onnxplain.commands.arguments import InputError

Drawn = TypeVar("Drawn")


def answers(results: Iterator[Any], pictures: list[Path]) -> Iterator[tuple[Path, Any]]:
    """Every picture with what `Explainer` gives for it, or the error: a bad picture does not cost the others."""
    from onnxplain.contract import OnnxplainError

    for picture in pictures:
        try:
            answer = next(results)
        except OnnxplainError as error:
            answer = error
        yield picture, answer


def drawn(
    draw: Callable[[Path, Any], Drawn], answered: Iterator[tuple[Path, Any]]
) -> Iterator[tuple[Path, Any, Drawn | None]]:
    """Those with what is drawn for each, None where there was an error; one is drawn while the next is explained.

    A picture whose drawing cannot be written does not cost the others either.
    """
    from onnxplain.runtime.images.prefetch import ahead

    def with_drawing(item: tuple[Path, Any]) -> tuple[Path, Any, Drawn | None]:
        picture, answer = item
        if isinstance(answer, Exception):
            return picture, answer, None
        try:
            return picture, answer, draw(picture, answer)
        except OSError as error:
            return picture, InputError(f"{picture}: cannot write {error.filename}: {error.strerror or error}"), None

    return ahead(with_drawing, answered, 1)
