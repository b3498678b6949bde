"""What an opened artifact can do, whatever its format, and what the formats have in common when they are opened."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import ArtifactError, OnnxplainError
from onnxplain.contract.metadata import METADATA_KEY, Metadata
from onnxplain.contract.names import no_such

from ..files import check_file

DEVICES = ("auto", "cpu", "cuda")


class Artifact(Protocol):
    """One file, open. Safe to use from several threads."""

    @property
    def metadata(self) -> Metadata:
        """What the file says about itself."""

    @property
    def device(self) -> str:
        """Where it runs: "cuda" or "cpu"."""

    def run(
        self, pixels: NDArray[np.float32], targets: Sequence[int], outputs: Iterable[str]
    ) -> dict[str, NDArray[np.float32]]:
        """`logits` and the named outputs, for pixels [batch, 3, H, W] and the same targets for each image.

        Only what these outputs need is computed. Raises OnnxplainError if the run fails, as it does when memory runs
        out.
        """


def check_arguments(path: Path, device: str, threads: int | None) -> None:
    """Raise OnnxplainError unless there is such a file and device, and the threads can be counted."""
    if threads is not None and threads < 1:
        raise OnnxplainError(f"threads must be at least 1, or None for all cores, got {threads}")
    if device not in DEVICES:
        raise OnnxplainError(no_such("device", device, DEVICES, {"gpu": ("cuda",)}))
    missing = f"there is no artifact {path}; write one with: onnxplain export --model … --output {path}"
    check_file(path, "an artifact", missing, ArtifactError)


def read_metadata(text: str | None, path: Path, kind: str) -> Metadata:
    """The metadata that the file holds as text, None where it holds none; `kind` is what it is a file of."""
    if not text:
        raise ArtifactError(
            f"{path}: not an onnxplain artifact: {kind} file without {METADATA_KEY!r} metadata; "
            "write one with: onnxplain export"
        )
    try:
        return Metadata.from_json(text)
    except OnnxplainError as error:
        raise ArtifactError(f"{path}: {error}") from None


def rows_of(targets: Sequence[int], images: int) -> NDArray[np.int64]:
    """The same targets for each image, [images, targets]."""
    return np.tile(np.array(targets, dtype=np.int64), (images, 1))
