"""Files that were written, run op by op in float64: what float32 rounds away would hide whether a file is the model.

The numbers stay those of float32, weights and constants alike: only the arithmetic is exact. So two programs of
the same function agree to float64's own rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from onnxplain.contract import OnnxplainError
from onnxplain.contract.outputs import ALWAYS, OUTPUTS, output_of
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.runtime.backends.memory import give_memory_back

from ..formats.silent import silent
from ..onnx_passes.ancestors import ancestors, reads
from .onnx_ops import OPS
from .weights_in_file import load_without_weights

FREED = 2**31
"""Bytes of tensors after which what the C library keeps of them goes back: it takes time to have it again."""


class OnnxOpByOp:
    """The ONNX file at ``path`` as it was written, run in float64, or another dtype that is asked for.

    Raises:
        OnnxplainError: The file has an op that ONNX does not have; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self._graph = load_without_weights(path).graph
        nodes = list(ir.traversal.RecursiveGraphIterator(self._graph))
        self._rare = {node: _by_reference(node) for node in nodes if node.domain or node.op_type not in {"If", *OPS}}
        self._last: dict[ir.Graph, dict[ir.Node, list[ir.Value]]] = {}
        self._of_weights = _computed_from_weights(self._graph)

    @torch.inference_mode()
    def run(self, pixels: Tensor, target: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """As of ``OpByOp`` in formats/table.py; only what these outputs need is computed."""
        self._dtype, self._recent, self._freed = pixels.dtype, _Recent(), 0
        given = {"pixels": pixels, "target": target}
        outputs = [value.name for value in self._graph.outputs if value.name and value.name not in ALWAYS]
        flags = {output_of(name).flag: name in names for name in outputs}
        values = {
            value: given[value.name] if value.name in given else _flag(value, flags[value.name or ""], len(pixels))
            for value in self._graph.inputs
        }
        wanted = [value for value in self._graph.outputs if value.name in names]
        needed = ancestors(wanted)
        nodes = [node for node in self._graph if node in needed]
        self._last[self._graph] = _last_uses(self._graph, nodes)
        tensors = self._compute(self._graph, nodes, wanted, values)
        return {value.name or "": tensor for value, tensor in zip(wanted, tensors, strict=True)}

    def _compute(
        self, graph: ir.Graph, nodes: Iterable[ir.Node], wanted: Sequence[ir.Value], values: dict[ir.Value, Tensor]
    ) -> list[Tensor]:
        """The ``wanted`` outputs of ``graph``, by these of its nodes.

        ``values`` has those of its inputs and of the graphs around it; its own are let go of.
        """
        if graph not in self._last:
            self._last[graph] = _last_uses(graph, list(graph))
        last = self._last[graph]
        for node in nodes:
            if node in self._of_weights:  # is computed where it is used, as a weight is read there
                continue
            results = self._results(node, values)
            values.update(zip(node.outputs, results, strict=False))
            self._freed += sum(values.pop(value).nbytes for value in last[node] if value in values)
            if self._freed > FREED:
                self._freed = 0
                give_memory_back()
        outputs = [self._tensor_of(value, values) for value in wanted]
        for value in wanted:
            if value.graph is graph:
                values.pop(value, None)
        return outputs

    def _results(self, node: ir.Node, values: dict[ir.Value, Tensor]) -> Sequence[Tensor]:
        given = [None if value is None else self._tensor_of(value, values) for value in node.inputs]
        if node.op_type == "If":
            branch = node.attributes["then_branch" if given[0] else "else_branch"].as_graph()
            return self._compute(branch, branch, branch.outputs, values)
        if node in self._rare:
            return self._rare[node](given)
        result = OPS[node.op_type](*given, **{name: _attribute(item) for name, item in node.attributes.items()})
        results = [result] if isinstance(result, Tensor) else result
        return [one.to(self._dtype) if one.is_floating_point() else one for one in results]

    def _tensor_of(self, value: ir.Value, values: dict[ir.Value, Tensor]) -> Tensor:
        """What was computed, or a weight: as all of them in float64 take twice the file, only some are kept."""
        if value in values:
            return values[value]
        node, place = value.producer(), value.index()
        if node is None or place is None:
            constant = value.const_value
            assert constant is not None, value
            return self._recent.get(value, lambda: _tensor(constant, self._dtype))
        return self._recent.get(value, lambda: self._results(node, values)[place])


def _by_reference(node: ir.Node) -> Callable[[Sequence[Tensor | None]], list[Tensor]]:
    """An op that is not in the table, as ONNX's own reference implementation has it: that has them all, and is slow."""
    try:
        evaluator = ReferenceEvaluator(ir.to_proto(node))
    except Exception as error:  # its exceptions have no common base class
        raise OnnxplainError(
            f"the file cannot be compared with the model: {node.op_type} cannot be computed in float64"
        ) from error

    def compute(inputs: Sequence[Tensor | None]) -> list[Tensor]:
        names = [value.name for value in node.inputs if value is not None and value.name is not None]
        given = [tensor.numpy() for tensor in inputs if tensor is not None]
        results = evaluator.run(None, dict(zip(names, given, strict=True)))
        return [torch.from_numpy(np.array(array)) for array in results]

    return compute


def _flag(value: ir.Value, wanted: bool, images: int) -> Tensor:
    """An optional flag is a number, a required one has an entry for each image."""
    return torch.full([images] * len(value.shape or ()), wanted)


class ScriptOpByOp:
    """The TorchScript file at ``path`` as it was written, run likewise."""

    def __init__(self, path: Path) -> None:
        with silent():
            self._module = torch.jit.load(str(path), map_location="cpu")

    @torch.inference_mode()
    def run(self, pixels: Tensor, target: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """As of ``OpByOp``; PyTorch interprets a module that is not optimized op by op."""
        known = {argument.name for argument in self._module.forward.schema.arguments}
        flags = {item.flag: name in names for name, item in OUTPUTS.items() if item.flag in known}
        arithmetic = in_double() if pixels.dtype == torch.float64 else nullcontext()
        with arithmetic, torch.jit.optimized_execution(False):
            outputs = self._module(pixels, target, **flags)
        return {name: outputs[name] for name in names}


class _Recent:
    """The weights used last, as a layer's rules use one several times: of so many bytes in all."""

    LIMIT = 2**26

    def __init__(self) -> None:
        self._tensors: dict[ir.Value, Tensor] = {}
        self._bytes = 0  # of all of them, which would take long to add up at each use

    def get(self, value: ir.Value, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of a value; made if it is not here any more."""
        known = self._tensors.pop(value, None)
        tensor = make() if known is None else known
        self._bytes += tensor.nbytes if known is None else 0
        self._tensors[value] = tensor
        while self._bytes > self.LIMIT:
            self._bytes -= self._tensors.pop(next(iter(self._tensors))).nbytes
        return tensor


def _tensor(constant: ir.TensorProtocol, dtype: torch.dtype | None = None) -> Tensor:
    """A constant, in this dtype if it is of floating-point numbers."""
    array = constant.numpy()
    wide = torch.empty(0, dtype=dtype).numpy().dtype if dtype and np.issubdtype(array.dtype, np.floating) else None
    copied = torch.from_numpy(array.astype(wide or array.dtype))
    del array
    if isinstance(constant, ir.ExternalTensor):
        constant.release()  # the part of the file that was read
    return copied


def _computed_from_weights(graph: ir.Graph) -> set[ir.Node]:
    """The nodes whose results depend on constants alone: |W|, say, or the shape of a weight."""
    found: set[ir.Node] = set()
    for node in graph:
        sources = [(value.const_value, value.producer()) for value in node.inputs if value is not None]
        constant = all(known is not None or source in found for known, source in sources)
        if (
            node.op_type != "If"
            and constant
            and not any(value.is_graph_input() for value in node.inputs if value is not None)
        ):
            found.add(node)
    return found


def _attribute(attribute: ir.Attr) -> Any:
    return _tensor(attribute.value) if attribute.type == ir.AttributeType.TENSOR else attribute.value


def _last_uses(graph: ir.Graph, nodes: Sequence[ir.Node]) -> dict[ir.Node, list[ir.Value]]:
    """By node, of those of ``graph`` that run, what the graph itself computes and none of them needs after it."""
    seen = set(graph.outputs)
    last: dict[ir.Node, list[ir.Value]] = {}
    for node in reversed(nodes):
        used = {value for value in (*reads(node), *node.outputs) if value not in seen}
        last[node] = [value for value in used if value.graph is graph]
        seen |= used
    return last
