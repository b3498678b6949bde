"""An artifact opened with onnxruntime: checked against its contract, and run for chosen outputs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import OnnxplainError, one_line
from .metadata import METADATA_KEY, Metadata
from .outputs import OUTPUTS

try:
    import onnxruntime
except ModuleNotFoundError:
    raise ImportError(
        "onnxplain.runtime needs onnxruntime: pip install 'onnxplain[cpu]', or 'onnxplain[gpu]' for CUDA"
    ) from None

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# TF32 keeps ten bits of a float32's mantissa: too few for relevance, which divides by sums that can be near zero
CUDA_OPTIONS = {"use_tf32": "0"}
DEVICES = ("auto", "cpu", "cuda")
ERRORS_ONLY = 3  # onnxruntime warns of every flag that is an input and an initializer, which is what makes it optional


class Artifact:
    """One ONNX file, open: `metadata`, and `run`. Safe to use from several threads."""

    def __init__(self, path: str | Path, device: str, threads: int | None) -> None:
        self._session = _open(Path(path), device, threads)
        self.metadata = _read_metadata(self._session, path)
        # A flag is an input with an initializer, which onnxruntime lists apart
        arguments = [*self._session.get_inputs(), *self._session.get_overridable_initializers()]
        self._inputs = {argument.name for argument in arguments}

    @property
    def device(self) -> str:
        """Where it runs: "cuda" or "cpu"."""
        return "cuda" if self._session.get_providers()[0] == CUDA else "cpu"

    def run(
        self, pixels: NDArray[np.float32], targets: Sequence[int], outputs: Iterable[str]
    ) -> dict[str, NDArray[np.float32]]:
        """`logits` and the named outputs, for pixels [batch, 3, H, W] and the same targets for each image.

        Only what these outputs need is computed. Raises OnnxplainError if onnxruntime fails, as it does when memory
        runs out.
        """
        wanted = list(dict.fromkeys(outputs))
        feeds = {
            "pixels": pixels,
            "target": np.tile(np.array(targets, dtype=np.int64), (len(pixels), 1)),
            **{item.flag: np.array(item.output in wanted) for item in OUTPUTS.values()},
        }
        names = ["logits", *wanted]
        try:
            values = self._session.run(names, {name: value for name, value in feeds.items() if name in self._inputs})
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise OnnxplainError(
                f"onnxruntime failed on {len(pixels)} images with {len(targets)} targets "
                f"(if memory ran out, use fewer at a time): {one_line(error)}"
            ) from None
        return dict(zip(names, values, strict=True))


def _open(path: Path, device: str, threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    if threads is not None:
        if threads < 1:
            raise OnnxplainError(f"threads must be at least 1, or None for all cores, got {threads}")
        options.intra_op_num_threads = threads
    providers = _providers(device)
    if not path.is_file():
        raise OnnxplainError(f"there is no artifact {path}; write one with: onnxplain export --model … --output {path}")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise OnnxplainError(f"{path} is not an ONNX file, or it is truncated: {one_line(error)}") from None
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise OnnxplainError("device cuda was asked for, but onnxruntime cannot use it here; use device cpu or auto")
    return session


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    """onnxruntime's execution providers for a device, first choice first."""
    if device not in DEVICES:
        raise OnnxplainError(f"there is no device {device!r}; there are: {', '.join(DEVICES)}")
    offered = onnxruntime.get_available_providers()
    if device == "cuda" and CUDA not in offered:
        raise OnnxplainError(
            "device cuda needs a CUDA build of onnxruntime: pip install 'onnxplain[gpu]', or use device cpu"
        )
    return [CPU] if device == "cpu" or CUDA not in offered else [(CUDA, CUDA_OPTIONS), CPU]


def _read_metadata(session: onnxruntime.InferenceSession, path: str | Path) -> Metadata:
    """The file's metadata, checked against the graph it comes with."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise OnnxplainError(
            f"{path}: not an onnxplain artifact: an ONNX file without {METADATA_KEY!r} metadata; "
            "write one with: onnxplain export"
        )
    try:
        metadata = Metadata.from_json(text)
    except OnnxplainError as error:
        raise OnnxplainError(f"{path}: {error}") from None
    shapes = {argument.name: argument.shape for argument in [*session.get_inputs(), *session.get_outputs()]}
    expected: dict[str, list[int | str]] = {
        "pixels": ["batch", 3, *metadata.preprocessing.size],
        "logits": ["batch", len(metadata.labels)],
        **{
            item.output: ["batch", *(["targets"] if item.per_target else []), *metadata.shape(item)]
            for item in metadata.outputs
        },
    }
    for name, shape in expected.items():
        if name not in shapes:
            raise OnnxplainError(f"{path}: not an onnxplain artifact: the graph has no {name}")
        if not _fits(shapes[name], shape):
            actual, wanted = (", ".join(map(str, sizes)) for sizes in (shapes[name], shape))
            raise OnnxplainError(
                f"{path}: not an onnxplain artifact: {name} is [{actual}], its metadata says [{wanted}]"
            )
    return metadata


def _fits(actual: Sequence[int | str | None], expected: Sequence[int | str]) -> bool:
    """Whether two shapes can be the same; an open dimension is a name or None, and an unknown shape is empty."""
    pairs = zip(actual, expected, strict=False)
    same = all(size == want for size, want in pairs if isinstance(size, int) and isinstance(want, int))
    return not actual or (len(actual) == len(expected) and same)
