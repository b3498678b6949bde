"""Large matrix products of PyTorch, computed by onnxruntime.

They are most of the gate's time in float64, and on AMD's processors onnxruntime takes half as long for them as the
library that PyTorch asks. Both sides of a comparison have the same products, as they would have by that library.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper
from torch import Tensor

from onnxplain.lrp_graph.torch_internals import TorchDispatchMode
from onnxplain.runtime.backends.onnx import ERRORS_ONLY
from onnxplain.runtime.backends.providers import CPU

aten = torch.ops.aten

LARGE = 2**20
"""Multiplications from which on a product is worth the call."""
DTYPES = {torch.float32: (onnx.TensorProto.FLOAT, np.float32), torch.float64: (onnx.TensorProto.DOUBLE, np.float64)}


class FastProducts(TorchDispatchMode):
    """A context in which large products of two matrices are computed by onnxruntime."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op is aten.mm.default and _fits(*args):
            return _product(*args)
        if op is aten.addmm.default and not kwargs and _fits(*args[1:]):
            return _product(*args[1:]).add_(args[0])
        return op(*args, **(kwargs or {}))


def _fits(a: Tensor, b: Tensor) -> bool:
    large = a.shape[0] * a.shape[1] * b.shape[1] >= LARGE
    return large and a.dtype == b.dtype and a.dtype in DTYPES and a.device.type == b.device.type == "cpu"


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b, of which either may be the transpose of what lies in memory."""
    result = a.new_empty(a.shape[0], b.shape[1])
    stored = [x if x.is_contiguous() or not x.mT.is_contiguous() else x.mT for x in (a, b)]
    transposed = tuple(x is not y for x, y in zip(stored, (a, b), strict=True))
    binding = (session := _session(a.dtype, *transposed, torch.get_num_threads())).io_binding()
    held = [x.contiguous() for x in stored]
    _, kind = DTYPES[a.dtype]
    for name, x in zip("ab", held, strict=True):
        binding.bind_input(name, "cpu", 0, kind, tuple(x.shape), x.data_ptr())
    binding.bind_output("y", "cpu", 0, kind, tuple(result.shape), result.data_ptr())
    session.run_with_iobinding(binding)
    return result


@cache
def _session(dtype: torch.dtype, first: bool, second: bool, threads: int) -> onnxruntime.InferenceSession:
    """One product y = a b; whether a and b are given as their transposes."""
    kind, _ = DTYPES[dtype]
    node = helper.make_node("Gemm", ["a", "b"], ["y"], transA=int(first), transB=int(second))
    values = {name: helper.make_tensor_value_info(name, kind, [None, None]) for name in "aby"}
    graph = helper.make_graph([node], "product", [values["a"], values["b"]], [values["y"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # PyTorch's threads want the processors
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
