"""A part of a file, run by itself: files without flags compute all their outputs, whether they are wanted or not."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import onnxruntime
from onnx_ir import convenience

from onnxplain.runtime.backends.onnx import ERRORS_ONLY
from onnxplain.runtime.backends.providers import CPU


def open_part(path: Path, inputs: Sequence[str], values: Sequence[str]) -> onnxruntime.InferenceSession:
    """A session of those nodes of an ONNX file that compute these values of these inputs."""
    model = ir.load(path)
    graph = convenience.extract(model.graph, inputs, values)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    with tempfile.TemporaryDirectory() as folder:  # a file, as bytes in memory may be 2 GB at most
        part = Path(folder, path.name)
        ir.save(ir.Model(graph, ir_version=model.ir_version), part)
        return onnxruntime.InferenceSession(part, options, providers=[CPU])
