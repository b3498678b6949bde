"""An artifact in TorchScript opened with PyTorch, which is imported here alone and only when one is opened.

PyTorch calls TorchScript deprecated, and no longer supports it on Python 3.14 and later: ONNX is the format to prefer.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnxplain.contract.digest import open_intact
from onnxplain.contract.errors import ArtifactError, OnnxplainError, one_line
from onnxplain.contract.metadata import METADATA_KEY, Metadata
from onnxplain.contract.names import no_such
from onnxplain.contract.outputs import ALWAYS

from .base import check_arguments, read_metadata, rows_of, run_error
from .providers import Provider

DEVICES = ("auto", "cpu", "cuda")


class TorchScriptArtifact:
    """An open TorchScript file: an `Artifact`. `threads` are set in PyTorch for the time of each run.

    Raises OnnxplainError unless it is trusted: TorchScript calls what PyTorch has, also what reads and writes files.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        threads: int | None,
        trust: bool,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        check_arguments(path, threads)
        if device not in DEVICES:
            raise OnnxplainError(no_such("device", device, DEVICES, {"gpu": ("cuda",)}))
        if providers is not None:
            raise OnnxplainError(f"`providers` are for onnxruntime, and {path} is opened with PyTorch; give `device`")
        if not trust:
            raise ArtifactError(
                f"{path} is a TorchScript file, and that is a program: it can read and overwrite your files. If you "
                "trust who made it, open it with `trust=True`; else ask for an ONNX file"
            )
        self._torch = _import_torch(path)
        self._threads = threads
        self.device = _device(self._torch, device)
        self._module, self.metadata = open_intact(path, partial(_open, self._torch, self.device))

    def run(self, images: NDArray[Any], targets: Sequence[int], outputs: Iterable[str]) -> dict[str, NDArray[Any]]:
        """See `Artifact.run`."""
        names = [*ALWAYS, *dict.fromkeys(outputs)]
        flags = {item.flag: item.output in names for item in self.metadata.outputs}
        torch = self._torch
        try:
            with torch.inference_mode(), self._settings():
                given = [torch.tensor(each, device=self.device) for each in (images, rows_of(targets, len(images)))]
                values = self._module(*given, **flags)
                results = {name: values[name].cpu().contiguous().numpy() for name in names}
        except (RuntimeError, KeyError) as error:
            reason = RuntimeError(str(error).strip().rpartition("\n")[2])  # above it stand places in the file's code
            raise run_error("PyTorch", len(images), len(targets), reason) from None
        self._check_shapes(results, len(images), len(targets))
        return results

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Run PyTorch without TF32, as in providers.py, without its slow first optimisation, and with `threads`."""
        torch, before = self._torch, self._torch.get_num_threads()
        with torch.jit.optimized_execution(False), torch.backends.cudnn.flags(allow_tf32=False):
            if self._threads is None:
                yield
                return
            torch.set_num_threads(self._threads)
            try:
                yield
            finally:
                torch.set_num_threads(before)

    def _check_shapes(self, results: dict[str, NDArray[Any]], images: int, targets: int) -> None:
        """Compare the shapes with the metadata; the file's code does not declare them."""
        for name, tensor in results.items():
            shape = self.metadata.full_shape(name, images, targets)
            if tensor.shape != shape:
                raise ArtifactError(
                    f"not an onnxplain artifact: {name} is {list(tensor.shape)}, its metadata says {list(shape)}"
                )


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ModuleNotFoundError:
        raise ArtifactError(
            f"{path} is a TorchScript artifact, which needs PyTorch: pip install torch, or export to ONNX instead"
        ) from None
    return torch


def _device(torch: Any, device: str) -> str:
    offered = torch.cuda.is_available()
    if device == "cuda" and not offered:
        raise OnnxplainError("PyTorch cannot use `device` cuda here; use cpu or auto")
    return "cuda" if offered and device != "cpu" else "cpu"


def _open(torch: Any, device: str, path: Path) -> tuple[Any, Metadata]:
    """The module, and its metadata, which are checked against the module's arguments."""
    held = {METADATA_KEY: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that TorchScript is deprecated
            module = torch.jit.load(str(path), map_location=device, _extra_files=held)
        text = held[METADATA_KEY]
        text = text.decode() if isinstance(text, bytes) else text
    except Exception as error:  # PyTorch's exceptions have no common base class
        raise ArtifactError(f"{path} is not a TorchScript file, or it is truncated: {one_line(error)}") from None
    metadata = read_metadata(text, path, "a TorchScript")
    arguments = [argument.name for argument in module.forward.schema.arguments]
    for name in ("pixels", "target", *(item.flag for item in metadata.outputs)):
        if name not in arguments:
            raise ArtifactError(f"{path}: not an onnxplain artifact: its code has no {name}")
    return module, metadata
