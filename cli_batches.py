"""Pictures explained in batches: which of them an error is about."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from onnxplain.cli_input import mistakes


def answers(explain: Callable[[Iterator[Path]], Iterator[Any]], pictures: list[Path]) -> Iterator[tuple[Path, Any]]:
    """Every picture with what `explain` yields for it, or the error: a bad picture does not cost the others."""
    remaining, pending = iter(pictures), deque[Path]()

    def pull() -> Iterator[Path]:
        for picture in remaining:
            pending.append(picture)
            yield picture

    while True:
        try:
            for explanations in explain(pull()):
                yield pending.popleft(), explanations
            return
        except mistakes() as error:
            if not pending:  # it is not about a picture
                raise
            while pending:
                yield pending.popleft(), error
