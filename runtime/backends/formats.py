"""What opens each format of artifacts."""

from collections.abc import Callable
from pathlib import Path

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import FORMATS, format_of

from .base import Artifact
from .onnx import OnnxArtifact
from .torchscript import TorchScriptArtifact

# By the format's name; each is given the path, device, threads, and whether to cache and to trust the file
OPEN: dict[str, Callable[[Path, str, int | None, bool, bool], Artifact]] = {
    "onnx": lambda path, device, threads, cache, trust: OnnxArtifact(path, device, threads, cache),
    "torchscript": lambda path, device, threads, cache, trust: TorchScriptArtifact(path, device, threads, trust),
}
assert OPEN.keys() == FORMATS.keys(), OPEN.keys() ^ FORMATS.keys()


def open_artifact(
    path: str | Path, device: str, threads: int | None, cache: bool = False, trust: bool = False
) -> Artifact:
    """Open the artifact at `path`, as `Explainer` describes it.

    Raises:
        OnnxplainError: A cache is asked for that the format does not have, or the file cannot be opened.
    """
    name = format_of(path)
    if cache and not FORMATS[name].has_cache:
        kinds = " or ".join(name for name, item in FORMATS.items() if item.has_cache).upper()
        raise OnnxplainError(f"a cache is for {kinds} files, {path} is not one by its name")
    return OPEN[name](Path(path), device, threads, cache, trust)
