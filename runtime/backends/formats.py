"""What opens each format of artifacts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import FORMATS, format_of

from .base import Artifact
from .onnx import OnnxArtifact
from .providers import Provider
from .torchscript import TorchScriptArtifact


class Settings(NamedTuple):
    """How an artifact is opened: the arguments of `Explainer`, of which each format uses some."""

    device: str
    threads: int | None
    cache: bool
    trust: bool
    providers: Sequence[Provider] | None
    packed: bool


# By the format's name
OPEN: dict[str, Callable[[Path, Settings], Artifact]] = {
    "onnx": lambda path, how: OnnxArtifact(path, how.device, how.threads, how.cache, how.providers, how.packed),
    "torchscript": lambda path, how: TorchScriptArtifact(path, how.device, how.threads, how.trust, how.providers),
}
assert OPEN.keys() == FORMATS.keys(), OPEN.keys() ^ FORMATS.keys()


def open_artifact(
    path: str | Path,
    device: str,
    threads: int | None,
    cache: bool = False,
    trust: bool = False,
    providers: Sequence[Provider] | None = None,
    packed: bool = False,
) -> Artifact:
    """Open the artifact at `path`, as `Explainer` describes it.

    Raises:
        OnnxplainError: If an argument is not valid, or not for files of this format.
        ArtifactError: If the file cannot be opened.
    """
    name = format_of(path)
    for argument, wanted in (("cache", cache), ("packed", packed)):
        kinds = [name for name, item in FORMATS.items() if getattr(item, f"has_{argument}")]
        if wanted and name not in kinds:
            raise OnnxplainError(
                f"`{argument}` is for {' or '.join(kinds).upper()} files, {path} is not one by its name"
            )
    return OPEN[name](Path(path), Settings(device, threads, cache, trust, providers, packed))
