"""Files that are written while the next image is explained."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from onnxplain.contract.errors import OnnxplainError

if TYPE_CHECKING:
    from onnxplain.runtime import Outcome

Results = TypeVar("Results")
Files = TypeVar("Files")


def draw_ahead(
    draw: Callable[[Path, Results], Files], outcomes: Iterator[tuple[Path, "Outcome[Results]"]]
) -> Iterator[tuple[Path, "Outcome[tuple[Results, Files]]"]]:
    """Draw each image's results in another thread, while the next image is explained.

    Args:
        draw: Called with an image's name and its results; returns the files that it has written.
        outcomes: The images' names, and what came of explaining them.

    Yields:
        Each name, with the results and the files; or with the error, also if a file cannot be written.
    """
    from onnxplain.runtime.images.prefetch import prefetch

    def drawn(item: tuple[Path, "Outcome[Results]"]) -> tuple[Path, "Outcome[tuple[Results, Files]]"]:
        image, outcome = item

        def with_files(results: Results) -> tuple[Results, Files]:
            try:
                return results, draw(image, results)
            except OSError as error:
                raise OnnxplainError(f"{image}: {not_written(error)}") from None

        return image, outcome.then(with_files)

    return prefetch(drawn, outcomes, 1)


def not_written(error: OSError) -> str:
    """What to say where a file cannot be written."""
    return f"cannot write {error.filename}: {error.strerror or error}"
