"""Pictures in batches: how many at once, and which of them an error is about."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxplain.cli_input import mistakes

if TYPE_CHECKING:
    from onnxplain.runtime import Metadata

BATCH_BYTES = 2**30  # of attention, gradient and relevance: pictures of many tokens go one by one
MAX_BATCH = 8


def batch_size(metadata: "Metadata", targets: int) -> int:
    """How many pictures to explain at once."""
    floats = metadata.layers * metadata.heads * metadata.layout.tokens**2 * (1 + 2 * targets)
    return max(1, min(MAX_BATCH, BATCH_BYTES // (4 * floats)))


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
