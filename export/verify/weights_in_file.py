"""An ONNX file opened without its weights, which are read from it one at a time as they are needed."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.external_data import set_base_dir

from onnxplain.runtime.backends.in_place import in_place


def load_without_weights(path: Path) -> ir.Model:
    """The ONNX model at ``path``, its large weights as tensors that are stored outside of it: in this very file."""
    small = in_place(path)
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(small.model))
    set_base_dir(model.graph, small.folder)
    return model
