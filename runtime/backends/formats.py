"""The formats of artifacts, told apart by the file's suffix."""

from pathlib import Path

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import no_such

from .base import Artifact
from .onnx import OnnxArtifact
from .torchscript import TorchScriptArtifact

# The suffix of each; any other suffix is taken for ONNX
FORMATS = {"onnx": ".onnx", "torchscript": ".pt"}


def check_format(name: str, path: str | Path) -> None:
    """Raise OnnxplainError unless there is a format of that name and a file at `path` would be taken for one."""
    if name not in FORMATS:
        raise OnnxplainError(no_such("format", name, FORMATS, {"pt": ("torchscript",), "torch": ("torchscript",)}))
    if format_of(path) != name:
        raise OnnxplainError(
            f"a file in the format {name} would not be known as one by the name {path}: "
            f"{FORMATS['torchscript']} stands for torchscript, and all else for onnx"
        )


def open_artifact(
    path: str | Path, device: str, threads: int | None, cache: bool = False, trust: bool = False
) -> Artifact:
    """Open the artifact at `path`, as `Explainer` describes it."""
    if format_of(path) == "onnx":
        return OnnxArtifact(Path(path), device, threads, cache)
    if cache:
        raise OnnxplainError(f"a cache is for ONNX files, {path} is not one by its name")
    return TorchScriptArtifact(Path(path), device, threads, trust)


def format_of(path: str | Path) -> str:
    """The name of the format that a file at `path` is taken for."""
    return "torchscript" if Path(path).suffix.lower() == FORMATS["torchscript"] else "onnx"
