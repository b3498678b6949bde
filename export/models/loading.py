"""From a row of the catalog to a model with its weights: which loader builds it, and from which file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from onnxplain.catalog import DEMO, LIBRARIES

from . import from_demo, from_open_clip, from_timm, from_torchvision, from_transformers
from .checkpoints import WEIGHTS, is_transformers, weights_in
from .hub import fetch, is_repository
from .records import LoadedModel, Request

Loader = Callable[[str, Request], LoadedModel]
"""(name of the model in the library, what is asked for) -> the model. Imports its library when it is called."""

LOADERS: dict[str, Loader] = {
    DEMO: from_demo.load,
    "timm": from_timm.load,
    "hf": from_transformers.load,
    "torchvision": from_torchvision.load,
    "open_clip": from_open_clip.load,
}
"""By library."""
assert LOADERS.keys() == {DEMO, *LIBRARIES}, "a library has a row in the catalog and a loader here"


def load_model(request: Request, checkpoint: str | Path | None) -> LoadedModel:
    """Load the model of a request.

    Args:
        request: Without a checkpoint.
        checkpoint: A file, or a folder or hub repository that holds one; None for none.

    Returns:
        The model, with the preprocessing that the request asks for.

    Raises:
        OnnxplainError: If the weights cannot be had or do not fit, or the model cannot be built as asked for.
    """
    library, name, request = _route(request, checkpoint)
    loaded = LOADERS[library](name, request)
    return replace(loaded, preprocessing=replace(loaded.preprocessing, **request.preprocessing))


def _route(request: Request, checkpoint: str | Path | None) -> tuple[str, str, Request]:
    """The library that builds the model, its name there, and the request with the file of the checkpoint.

    Models of the catalog come from weights in transformers' format where these are preferred or given, with their text
    encoder from open_clip, else from the library of their row.
    """
    row = request.row
    if row.repository is not None and checkpoint is None and not request.random_init:
        return "hf", row.repository, request
    if checkpoint is not None:
        path = _found(checkpoint, request)
        folder = path.parent if path.is_file() and path.name in WEIGHTS else path
        if row.hf_type and is_transformers(folder):
            return "hf", str(folder), request
        request = replace(request, checkpoint=weights_in(path) if path.is_dir() else path)
    if request.needs_text and row.open_clip:
        return "open_clip", row.open_clip, request
    return row.library, row.architecture, request


def _found(checkpoint: str | Path, request: Request) -> Path:
    """The file or folder of a checkpoint, downloaded if it is a repository's."""
    path = Path(checkpoint).expanduser()
    if path.exists() or not is_repository(str(checkpoint)):
        return path
    return fetch(str(checkpoint), request.progress, text=request.needs_text)
