"""An artifact as onnxruntime has simplified it, kept in a folder beside it, which opens sooner.

Kept is the graph before what depends on the processor, and without the constants that onnxruntime works out from the
weights: those it makes again as fast as they could be read. So the folder is as large as the artifact, it may go
with it to another machine, and what is computed from it is the same to the last bit.
"""

import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnxruntime

from .errors import CacheWarning, OnnxplainError, one_line

SUFFIX = ".cache"
GRAPH, WEIGHTS = "graph.onnx", "weights"
LEAST_BYTES = "1024"  # of a constant that is kept among the weights, which are read from the file where they lie
FOLDING = "ConstantFolding"


def open_kept(path: Path, start: Callable[[Path], onnxruntime.InferenceSession]) -> onnxruntime.InferenceSession:
    """`start` on what is kept of the artifact at `path`, which is made if it is missing, outdated or damaged.

    Where that cannot be, `start(path)` and a CacheWarning. Raises what `start(path)` raises.
    """
    kept = path.parent / f"{path.name}{SUFFIX}" / _key(path)
    for make in (_nothing, _make):
        try:
            make(path, kept)
            return start(kept / GRAPH)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            reason = one_line(error)
    with suppress(OSError):
        kept.parent.rmdir()  # only if it is empty
    session = start(path)
    warnings.warn(f"nothing can be kept of {path} in {kept.parent}: {reason}", CacheWarning, stacklevel=2)
    return session


def _key(path: Path) -> str:
    """The name of what is kept of exactly this file, by this onnxruntime."""
    file = path.stat()
    return hashlib.sha256(f"{file.st_size} {file.st_mtime_ns} {onnxruntime.__version__}".encode()).hexdigest()[:16]


def _nothing(path: Path, kept: Path) -> None:
    if not kept.is_dir():
        raise OnnxplainError("nothing is kept yet")


def _make(path: Path, kept: Path) -> None:
    """Write the folder `kept`, whole or not at all, in place of all that was kept of that artifact before."""
    kept.parent.mkdir(exist_ok=True)
    shutil.rmtree(kept, ignore_errors=True)  # if it is there, it is damaged
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".") as scratch:
        made = Path(scratch) / kept.name
        made.mkdir()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(made / GRAPH)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", LEAST_BYTES)
        options.add_session_config_entry("session.disable_prepacking", "1")  # this session runs nothing
        onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=[FOLDING], enable_fallback=False
        )
        for old in kept.parent.iterdir():
            if old != kept and not old.name.startswith("."):  # that is what another process is writing
                shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # another process was first; if that is not it, opening will tell
            made.replace(kept)
