"""The interface of open artifacts, and what opening them has in common in all formats."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import ArtifactError, OnnxplainError, RunError, one_line
from onnxplain.contract.metadata import METADATA_KEY, Metadata
from onnxplain.contract.validation import is_count

from ..files import check_file

MOST_THREADS = 1024


class Artifact(Protocol):
    """An open artifact. Safe to use from several threads."""

    @property
    def metadata(self) -> Metadata:
        """What the file says about itself."""

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda", or the name of another of onnxruntime's providers."""

    def run(self, images: NDArray[Any], targets: Sequence[int], outputs: Iterable[str]) -> dict[str, NDArray[Any]]:
        """Run the graph, and compute only what these outputs need.

        Args:
            images: `metadata.input`: pixels, float32 [batch, 3, H, W], or images, uint8 [batch, height, width, 3].
            targets: Class indices or ranks, the same for each image.
            outputs: Names of those in `metadata.outputs`.

        Returns:
            `logits`, `class_index` and these outputs, by name; class_index int64, all others float32, or float64
            where the graph computes in that.

        Raises:
            RunError: If the run fails, as it does when memory runs out.
        """


def check_arguments(path: Path, threads: int | None) -> None:
    """Raise OnnxplainError unless there is such a file, and the number of threads is valid."""
    if threads is not None and not (is_count(threads) and threads <= MOST_THREADS):
        raise OnnxplainError(
            f"`threads` must be an integer from 1 to {MOST_THREADS}, or None for all cores, got {threads!r}"
        )
    missing = f"there is no artifact {path}; the command export writes one, or export_model in Python"
    check_file(path, "an artifact", missing, ArtifactError)


def in_utf8(path: Path) -> str:
    """A path as onnxruntime takes it; raises ArtifactError if it is not UTF-8, as names on Linux need not be."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ArtifactError(f"{path} is a name that is not UTF-8, which onnxruntime cannot open; rename it") from None
    return text


def read_metadata(text: str | None, path: Path, kind: str) -> Metadata:
    """Read metadata from their text, None if the file has none; `kind` is the kind of file, for the error."""
    if not text:
        raise ArtifactError(
            f"{path}: not an onnxplain artifact: {kind} file without {METADATA_KEY!r} metadata; "
            "write one with: onnxplain export"
        )
    try:
        return Metadata.from_json(text)
    except OnnxplainError as error:
        raise ArtifactError(f"{path}: {error}") from None


def run_error(program: str, images: int, targets: int, reason: object) -> RunError:
    """What to raise where a program, such as onnxruntime, fails on so many images and targets."""
    return RunError(
        f"{program} failed on {images} images with {targets} targets "
        f"(if memory ran out, use fewer at a time): {one_line(reason)}"
    )


def rows_of(targets: Sequence[int], images: int) -> NDArray[np.int64]:
    """The same targets for each image, [images, targets]."""
    return np.tile(np.array(targets, dtype=np.int64), (images, 1))
