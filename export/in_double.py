"""Models and files computed in float64: what float32 rounds away would hide whether a file is the model it came from.

The numbers stay those of float32, weights and constants alike: only the arithmetic is exact. So two programs that are
the same but for their spelling agree to float64's own rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ..runtime import OnnxplainError
from ..runtime.formats import format_of
from ..runtime.outputs import OUTPUTS
from .onnx_file import silent
from .onnx_ops import OPS

aten = torch.ops.aten


DOUBLE_EPS, SINGLE_EPS = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
"""What a norm adds that was told no epsilon, by its type."""


def _widened(arg: Any) -> Any:
    """An argument of an op: a number as float32 has it, and for the type float32 float64."""
    if isinstance(arg, float) and arg == DOUBLE_EPS:
        return SINGLE_EPS
    if isinstance(arg, float):
        with np.errstate(over="ignore"):
            return float(np.float32(arg))
    return torch.float64 if arg is torch.float32 else arg


class _InDouble(TorchDispatchMode):
    """Has code that was written for float32 compute in float64, with float32's constants."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_widened, (tuple(args), kwargs or {}))
        result = op(*args, **kwargs)
        if op in (aten.lift_fresh.default, aten.lift_fresh_copy.default) and result.is_floating_point():
            return result.to(torch.float32).to(torch.float64)  # a number that the code has made a tensor of
        return result


@contextmanager
def in_double() -> Iterator[None]:
    """Compute in float64 what PyTorch is asked for here, by modules whose weights are in float64 already."""
    before, limits = torch.get_default_dtype(), torch.finfo(torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        with _InDouble(), patch.object(torch, "finfo", lambda dtype=None: limits):  # rules ask how coarse numbers are
            yield
    finally:
        torch.set_default_dtype(before)


class OnnxInDouble:
    """The ONNX file at ``path`` as it was written, run in float64.

    Raises OnnxplainError, naming it, if the file has an op that ONNX does not have.
    """

    def __init__(self, path: Path) -> None:
        self._graph = ir.load(path).graph
        nodes = list(ir.traversal.RecursiveGraphIterator(self._graph))
        self._rare = {node: _by_reference(node) for node in nodes if node.domain or node.op_type not in {"If", *OPS}}
        self._last: dict[ir.Graph, dict[ir.Node, list[ir.Value]]] = {}

    @torch.inference_mode()
    def run(self, pixels: Tensor, target: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """These outputs; pixels: float64 [batch, 3, H, W], target: int64 [batch, targets]."""
        flags = {item.flag: torch.tensor(name in names) for name, item in OUTPUTS.items()}
        given = {"pixels": pixels, "target": target, **flags}
        values = {value: given[value.name] for value in self._graph.inputs if value.name in given}
        outputs = self._compute(self._graph, values)
        return {
            value.name: tensor
            for value, tensor in zip(self._graph.outputs, outputs, strict=True)
            if value.name in names
        }

    def _compute(self, graph: ir.Graph, values: dict[ir.Value, Tensor]) -> list[Tensor]:
        """What ``graph`` gives, from ``values`` of its inputs and of the graphs around it; its own are let go of."""
        last = self._last.setdefault(graph, _last_uses(graph))
        for node in graph:
            results = self._results(node, values)
            values.update(zip(node.outputs, results, strict=False))
            for value in last[node]:
                values.pop(value, None)
        outputs = [_tensor_of(value, values) for value in graph.outputs]
        for value in graph.outputs:
            if value.graph is graph:
                values.pop(value, None)
        return outputs

    def _results(self, node: ir.Node, values: dict[ir.Value, Tensor]) -> Sequence[Tensor]:
        given = [None if value is None else _tensor_of(value, values) for value in node.inputs]
        if node.op_type == "If":
            return self._compute(node.attributes["then_branch" if given[0] else "else_branch"].as_graph(), values)
        if node in self._rare:
            return self._rare[node](given)
        result = OPS[node.op_type](*given, **{name: _attribute(item) for name, item in node.attributes.items()})
        return [result] if isinstance(result, Tensor) else result


def _by_reference(node: ir.Node) -> Callable[[Sequence[Tensor | None]], list[Tensor]]:
    """An op that is not in the table, as ONNX's own reference implementation has it: that has them all, and is slow."""
    try:
        evaluator = ReferenceEvaluator(ir.to_proto(node))
    except Exception as error:  # its exceptions have no common base class
        raise OnnxplainError(
            f"the file cannot be compared with the model: {node.op_type} cannot be computed in float64"
        ) from error

    def compute(inputs: Sequence[Tensor | None]) -> list[Tensor]:
        names = [value.name for value in node.inputs if value is not None]
        given = [tensor.numpy() for tensor in inputs if tensor is not None]
        results = evaluator.run(None, dict(zip(names, given, strict=True)))
        return [torch.from_numpy(np.array(array)) for array in results]

    return compute


class ScriptInDouble:
    """The TorchScript file at ``path`` as it was written, run in float64."""

    def __init__(self, path: Path) -> None:
        with silent():
            self._module = torch.jit.load(str(path), map_location="cpu").double()

    @torch.inference_mode()
    def run(self, pixels: Tensor, target: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """As of OnnxInDouble."""
        known = {argument.name for argument in self._module.forward.schema.arguments}
        flags = {item.flag: name in names for name, item in OUTPUTS.items() if item.flag in known}
        with in_double(), torch.jit.optimized_execution(False):
            outputs = self._module(pixels, target, **flags)
        return {name: outputs[name] for name in names}


def open_in_double(path: Path) -> OnnxInDouble | ScriptInDouble:
    """The artifact at ``path``, to be run in float64."""
    return ScriptInDouble(path) if format_of(path) == "torchscript" else OnnxInDouble(path)


def _tensor_of(value: ir.Value, values: Mapping[ir.Value, Tensor]) -> Tensor:
    """What was computed, or a weight: made float64 each time, as all of them together would take twice the file."""
    if value in values:
        return values[value]
    assert value.const_value is not None, value
    return _tensor(value.const_value)


def _tensor(constant: ir.TensorProtocol) -> Tensor:
    array = constant.numpy()
    return torch.from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array.copy())


def _attribute(attribute: ir.Attr) -> Any:
    return _tensor(attribute.value) if attribute.type == ir.AttributeType.TENSOR else attribute.value


def _last_uses(graph: ir.Graph) -> dict[ir.Node, list[ir.Value]]:
    """By node, what ``graph`` itself computes and nobody needs after that node."""
    seen = set(graph.outputs)
    last: dict[ir.Node, list[ir.Value]] = {}
    for node in reversed(graph):
        used = {value for value in (*_used(node), *node.outputs) if value not in seen}
        last[node] = [value for value in used if value.graph is graph]
        seen |= used
    return last


def _used(node: ir.Node) -> Iterable[ir.Value]:
    """All that a node reads, its branches included."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                yield from _used(inner)
            yield from attribute.as_graph().outputs
    yield from (value for value in node.inputs if value is not None)
