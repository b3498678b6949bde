"""A cache of artifacts as onnxruntime has optimized them, each in a folder beside the artifact; they open sooner.

A cache has the artifact's digest in its name, and digests of its own files, so that neither a damaged cache nor that of
another file is used. They are no signature: who can write the folder decides the answers.

The graph is kept as it is before the optimizations that depend on the processor, and without the constants that
onnxruntime computes from the weights, which takes no longer than to read them. So the folder is as large as the
artifact, it can be moved to another machine with it, and what is computed from it is the same to the last bit. Its
nodes are in the artifact's order, and so it takes no more memory.
"""

import hashlib
import re
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import onnxruntime

from onnxplain.contract.digest import file_digest, open_beside, open_intact, replaced, stored_digest
from onnxplain.contract.errors import CacheWarning, OnnxplainError, one_line

from ..files import check_file, unfinished
from .base import in_utf8
from .external import refuse_external_data
from .in_place import in_place
from .node_order import in_order_of
from .optimizers import UNUSED

SUFFIX = ".cache"
GRAPH_FILE, WEIGHTS_FILE = "graph.onnx", "weights"
DIGESTS_FILE = "sha256"  # a line for each of them, as sha256sum reads them
WAY = 2  # in which caches are made; those of another number are made anew
FOLDER = "[0-9a-f]{16}"  # the folder's name in which something is kept
LEAST_APART = 2**10  # bytes of a constant that is kept among the weights, which are read from the file where they lie
# Later: what is computed from weights, and what takes a transposed weight as it is where that could be computed
AT_LOAD = ["ConstantFolding", "MatmulTransposeFusion"]
# Weights beside the graph open sooner. Before 1.31, onnxruntime then writes what branches hold twice, and reads it not.
APART = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31)
T = TypeVar("T")


def open_cached(path: Path, start: Callable[[Path], T]) -> T:
    """Open an artifact from its cache, which is made if it is missing, outdated or damaged.

    Args:
        path: The artifact.
        start: Opens a file.

    Returns:
        `start` of the cached graph; or if that cannot be used, with a CacheWarning, `open_intact(path, start)`.

    Raises:
        ArtifactError: As `open_intact(path, start)`.
    """
    digest = stored_digest(path)
    if digest is None:
        return open_intact(path, start)  # says what is wrong with it
    kept = path.parent / f"{path.name}{SUFFIX}" / _key(digest)
    for make in (_check_files, _make):
        try:
            make(path, kept)
            return open_beside(partial(_check, kept), partial(start, kept / GRAPH_FILE))
        except Exception as error:  # onnxruntime's exceptions have no common base class
            reason = one_line(str(error).rpartition(" : ")[2])  # without onnxruntime's own signatures
    with suppress(OSError):
        kept.parent.rmdir()  # only if it is empty
    opened = open_intact(path, start)
    warnings.warn(f"nothing can be kept of {path} in {kept.parent}: {reason}", CacheWarning, stacklevel=2)
    return opened


def _key(digest: str | None) -> str:
    """The name of the cache of the file with that digest, made in this way by this onnxruntime."""
    return hashlib.sha256(f"{digest} {onnxruntime.__version__} {WAY}".encode()).hexdigest()[:16]


def _check_files(path: Path, kept: Path) -> None:
    """Raise OnnxplainError unless there is a cache of regular files."""
    if not kept.is_dir():
        raise OnnxplainError("there is no cache yet")
    for file in kept.iterdir():
        check_file(file, "a file", f"there is no {file}")


def _check(kept: Path) -> None:
    if (kept / DIGESTS_FILE).read_text("ascii") != _digests(kept):
        raise OnnxplainError(f"{kept} is damaged")


def _digests(folder: Path) -> str:
    files = [folder / name for name in (GRAPH_FILE, WEIGHTS_FILE)]
    files = [file for file in files if file.exists()]  # weights, where some are large
    return "".join(f"{file_digest(file)}  {file.name}\n" for file in files)


def _make(path: Path, kept: Path) -> None:
    """Write the folder `kept`, whole or not at all, in place of all that was kept of that artifact before."""
    with unfinished(kept.parent) as scratch:
        shutil.rmtree(kept, ignore_errors=True)  # if it is there, it is damaged
        made = scratch / kept.name
        made.mkdir()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = in_utf8(made / GRAPH_FILE)
        if APART:
            prefix = "session.optimized_model_external_initializers"
            options.add_session_config_entry(f"{prefix}_file_name", WEIGHTS_FILE)
            options.add_session_config_entry(f"{prefix}_min_size_in_bytes", str(LEAST_APART))
        options.add_session_config_entry("session.disable_prepacking", "1")  # this session runs nothing
        options.add_session_config_entry("session.load_model_format", "ONNX")

        def simplify(file: Path) -> None:
            refuse_external_data(file)
            onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=[*AT_LOAD, *UNUSED],
                enable_fallback=False,
            )  # fmt: skip

        open_intact(path, simplify)
        graph = made / GRAPH_FILE
        graph.write_bytes(in_order_of(graph.read_bytes(), in_place(path).model))
        (made / DIGESTS_FILE).write_text(_digests(made), "ascii")
        if kept.name != _key(stored_digest(path)):
            raise replaced(path)
        for old in kept.parent.iterdir():
            if old != kept and re.fullmatch(FOLDER, old.name):  # what else is there is not ours
                shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):  # another process was first; if that is not it, opening will tell
            made.replace(kept)
