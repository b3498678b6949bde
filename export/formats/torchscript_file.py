"""The fused graph as TorchScript: its ATen graph written out as code, what only some outputs need under conditions.

Tracing would bake the numbers of images and classes in, and scripting cannot read the fused graph's Python. So the
graph that torch.export finds, these numbers open, is printed as the source of one method, ``forward``, with the flags
that the ONNX file has. Lines that the same outputs need form one group and stand under one ``if``, as the nodes of an
ONNX file do.

PyTorch calls TorchScript deprecated, in favour of torch.export. It still is what C++ programs load.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from onnxplain.contract import METADATA_KEY, OnnxplainError
from onnxplain.contract.outputs import ALWAYS, OUTPUTS
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.torch_internals import OpOverload, is_mutable, schema_of

from .program import FlatProgram
from .recording import flat_program
from .sealing import seal_torchscript
from .silent import silent

aten = torch.ops.aten

NO_OPS = {aten.detach.default, aten.detach_.default, aten.alias.default, aten.lift_fresh_copy.default}
"""What changes nothing where there is no autograd and no value is written to."""

SIGNS = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//"}
"""Arithmetic of sizes."""

Outputs = frozenset[str]
ALL = Outputs(ALWAYS)
"""Who needs a line that runs whatever the flags are."""


def torchscript_model(graph: FusedGraph, size: tuple[int, int]) -> torch.jit.ScriptModule:
    """Translate the fused graph.

    Args:
        graph: The fused graph.
        size: (height, width) of the images; their number, and that of the targets, stay open.

    Returns:
        The program. Its ``forward(pixels, target, with_…=True, …)`` gives those in ALWAYS and the outputs whose flags
        are true, by name; for each of these outputs there also is a method of its name, which gives it alone.
    """
    program = flat_program(graph, size)
    module = type("Explained", (nn.Module,), {})()  # PyTorch would give two modules of one class the same methods
    words = _weights(program, module)
    lines = _lines(program, words)
    flags = {name: OUTPUTS[name].flag for name in graph.names if name not in ALWAYS}
    results = {name: words[node] for name, node in zip(graph.names, program.outputs, strict=True)}
    with silent():
        script: torch.jit.ScriptModule = torch.jit.script(module)
        script.define(_forward(lines, results, flags))
        for name in flags:
            script.define(_alone(name, list(flags)))
    return script


def save_torchscript(model: torch.jit.ScriptModule, metadata: str, path: Path) -> None:
    """Write a TorchScript program as an artifact.

    Args:
        model: The program.
        metadata: The JSON document that the runtime reads.
        path: Of the file; at its end is the digest that the runtime checks.
    """
    with silent(), path.open("wb") as stream:  # given a path, PyTorch would write its name into the file
        torch.jit.save(model, stream, _extra_files={METADATA_KEY: metadata})
    seal_torchscript(path)


def _weights(program: FlatProgram, module: nn.Module) -> dict[fx.Node, str]:
    """Give ``module`` every tensor that the graph takes beside its inputs; returns how the code calls all of these."""
    words = {node: node.name for node in (program.pixels, program.target)}
    held: dict[tuple[Any, ...], str] = {}
    for node, weight in program.weights.items():
        tensor = weight.padded()
        key = tensor.data_ptr(), tensor.shape, tensor.stride()  # weights that are tied are held once
        words[node] = f"self.{held.setdefault(key, node.name)}"
        module.register_buffer(held[key], tensor)
    return words


@dataclass(frozen=True)
class _Line:
    """``name = expression``.

    Attributes:
        name: Of the value.
        expression: What gives it.
        uses: The names that the expression takes.
        nothing: What stands for the value where the line is not run; None where nothing can, for a list.
    """

    name: str
    expression: str
    uses: tuple[str, ...]
    nothing: str | None


def _lines(program: FlatProgram, words: dict[fx.Node, str]) -> list[_Line]:
    """The calls of the graph in order, equal ones once; adds to ``words`` the names of their values."""
    lines: dict[str, _Line] = {}
    for node in program.graph.nodes:
        if node.op != "call_function" or node.target is aten._assert_tensor_metadata.default:
            continue
        if node.target in NO_OPS:
            words[node] = words[node.args[0]]
            continue
        expression = _expression(node, words)
        value = node.meta["val"]
        nothing = "none" if isinstance(value, Tensor) else None if isinstance(value, list | tuple) else "0"
        uses = tuple(words[arg] for arg in node.all_input_nodes)
        line = lines.setdefault(expression, _Line(node.name, expression, uses, nothing))
        words[node] = line.name
    return list(lines.values())


def _expression(node: fx.Node, words: Mapping[fx.Node, str]) -> str:
    """A call as TorchScript."""
    if node.target is operator.getitem:
        return "{}[{}]".format(*(_word(arg, words) for arg in node.args))
    if node.target in SIGNS:
        left, right = (_word(arg, words) for arg in node.args)
        return f"{left} {SIGNS[node.target]} {right}"
    if node.target is aten.sym_size.int:
        return "{}.size({})".format(*(_word(arg, words) for arg in node.args))
    op = node.target
    if not isinstance(op, OpOverload) or is_mutable(op):
        raise OnnxplainError(f"TorchScript cannot be written for {op} ({node.name}); write ONNX")
    types = {argument.name: argument.type for argument in schema_of(op).arguments}
    given = [_word(arg, words, kind) for arg, kind in zip(node.args, types.values(), strict=False)]
    given += [f"{name}={_word(arg, words, types[name])}" for name, arg in node.kwargs.items()]
    name, _, _overload = op.__name__.partition(".")
    return f"torch.ops.{op.namespace}.{name}({', '.join(given)})"


def _word(arg: Any, words: Mapping[fx.Node, str], kind: Any = None) -> str:
    """An argument as TorchScript; ``kind`` is its type in the op's schema."""
    if isinstance(arg, fx.Node):
        return words[arg]
    if isinstance(arg, torch.device):
        return "pixels.device"
    if isinstance(arg, float) and not math.isfinite(arg):
        return f'float("{arg}")'
    if isinstance(arg, list | tuple):
        listed = f"[{', '.join(_word(item, words) for item in arg)}]"
        return listed if arg and None not in arg else f"torch.jit.annotate({kind.annotation_str}, {listed})"
    return repr(arg)


def _forward(lines: Sequence[_Line], results: Mapping[str, str], flags: Mapping[str, str]) -> str:
    """The source of the method that computes what its flags ask for."""
    needs = _needs(lines, results)
    groups: dict[Outputs, list[_Line]] = {}
    for line in lines:
        groups.setdefault(needs[line.name], []).append(line)
    groups.pop(Outputs(), None)  # what no output needs
    crossing = {name for line in lines for name in line.uses if needs.get(name) != needs[line.name]}
    crossing |= set(results.values())
    code = ["    none = torch.empty([0])"]
    code += [f"    {line.name} = {line.expression}" for line in groups.pop(ALL)]
    for outputs in sorted(groups, key=len, reverse=True):  # along an edge the set of outputs can only shrink
        code.append(f"    if {' or '.join(flag for name, flag in flags.items() if name in outputs)}:")
        code += [f"        {line.name} = {line.expression}" for line in groups[outputs]]
        code.append("    else:")
        code += [f"        {line.name} = {line.nothing}" for line in groups[outputs] if line.name in crossing]
    always = ", ".join(f'"{name}": {results[name]}' for name in ALWAYS)
    code.append(f"    outputs = {{{always}}}")
    code += [f'    if {flag}:\n        outputs["{name}"] = {results[name]}' for name, flag in flags.items()]
    arguments = "".join(f", {flag}: bool = True" for flag in flags.values())
    head = f"def forward(self, pixels: Tensor, target: Tensor{arguments}) -> Dict[str, Tensor]:"
    return "\n".join([head, *code, "    return outputs\n"])


def _needs(lines: Sequence[_Line], results: Mapping[str, str]) -> dict[str, Outputs]:
    """By line, the outputs that need it; ALL where those in ALWAYS do, and for sizes of what is always computed."""
    wanted: dict[str, Outputs] = {line.name: Outputs() for line in lines}
    for output, name in results.items():
        wanted[name] |= {output}
    for line in reversed(lines):
        for name in wanted.keys() & set(line.uses):
            wanted[name] |= wanted[line.name]
    lists = {line.name for line in lines if line.nothing is None}
    for line in lines:
        used = [wanted[name] for name in line.uses if name in wanted]
        if lists & set(line.uses):  # items are taken where the list is made: a list does not cross
            wanted[line.name] = Outputs().union(*(wanted[name] for name in lists & set(line.uses)))
        if wanted[line.name] & ALL or (line.nothing == "0" and all(item == ALL for item in used)):
            wanted[line.name] = ALL
    return wanted


def _alone(output: str, outputs: Sequence[str]) -> str:
    """The source of the method that computes one output."""
    flags = "".join(f", {name == output}" for name in outputs)
    return "\n".join(
        [
            f"def {output}(self, pixels: Tensor, target: Tensor) -> Tensor:",
            f'    return self.forward(pixels, target{flags})["{output}"]\n',
        ]
    )
