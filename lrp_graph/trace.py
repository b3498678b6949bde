"""Step 1: a model becomes a flat ATen graph in which every attention matrix is a value of its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from .rewrite import call, copy_nodes, shape_of, target_of
from .selection import move_selection_up

aten = torch.ops.aten

SOFTMAX = (aten.softmax, aten._softmax)
MATMUL = (aten.matmul, aten.bmm)


class GraphError(ValueError):
    """The model's graph is not that of a transformer that can be explained; the message says what is missing."""


@dataclass(frozen=True)
class Trace:
    """The ATen graph of one forward pass.

    nodes: the calls that the logits and the whole logits depend on, in execution order, attention written out as
        ``softmax(q k' * scale + mask) v``.
    pixels, logits: the graph's input node and its output node.
    whole: the same logits out of a last block that computes every token, where ``logits`` need the rows read only.
    sites: the softmax nodes whose result weights values: one per attention layer, first to last.
    weights: placeholder node to the path of the parameter or buffer in the model that it stands for.
    constants: placeholder node to a tensor that the model keeps in neither.
    """

    nodes: tuple[fx.Node, ...]
    pixels: fx.Node
    logits: fx.Node
    whole: fx.Node
    sites: tuple[fx.Node, ...]
    weights: dict[fx.Node, str]
    constants: dict[fx.Node, Tensor]


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Trace ``model`` in evaluation mode with a dynamic batch.

    example: [1, 3, H, W]; its height and width become fixed.
    Raises GraphError if the model cannot be traced, does not return one [batch, classes] tensor, or has no attention.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        pair = torch.cat([example, example])  # a batch of 1 would be baked in as the constant 1
        program = torch.export.export(model, (pair,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except Exception as error:  # whatever the model raises when it is run on the example
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GraphError(f"torch.export cannot trace {type(model).__name__}: {reason}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    return _read(program)


def _read(program: ExportedProgram) -> Trace:
    graph = program.graph
    _write_out_attention(graph)
    _erase_no_ops(graph)
    signature = program.graph_signature
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    (output,) = (node for node in graph.nodes if node.op == "output")
    results = output.args[0]
    if len(results) != 1 or len(shape_of(results[0])) != 2:
        shapes = [shape_of(node) for node in results if isinstance(node, fx.Node)]
        raise GraphError(f"the model must return one tensor [batch, classes]; it returns {shapes}")
    whole = results[0]
    sites = [site for site in _attention_sites(graph) if site in ancestors(whole)]
    twins = _twins(graph, sites, whole, output)
    move_selection_up(graph, set(twins.values()))
    logits = output.args[0][0]
    needed = ancestors(logits) | ancestors(whole)
    calls = tuple(node for node in graph.nodes if node in needed and node.op == "call_function")
    return Trace(
        nodes=calls,
        pixels=placeholders[signature.user_inputs[0]],
        logits=logits,
        whole=whole,
        sites=tuple(sites),
        weights={placeholders[name]: path for name, path in paths.items()},
        constants={placeholders[name]: program.constants[path] for name, path in lifted.items()},
    )


def _write_out_attention(graph: fx.Graph) -> None:
    """Replace each fused attention by the matrix products and the softmax that it stands for."""
    for node in graph.find_nodes(op="call_function", target=aten.scaled_dot_product_attention.default):
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        q, k, v, mask = given["query"], given["key"], given["value"], given.get("attn_mask")
        if given.get("is_causal") or given.get("enable_gqa"):
            raise GraphError(f"{node.name}: causal and grouped-query attention are not supported")
        if mask is not None and mask.meta["val"].dtype == torch.bool:
            raise GraphError(f"{node.name}: boolean attention masks are not supported")
        scale = given.get("scale") or 1 / math.sqrt(q.meta["val"].shape[-1])
        with graph.inserting_before(node):
            scores = call(graph, aten.matmul.default, q, call(graph, aten.transpose.int, k, -2, -1))
            scores = call(graph, aten.mul.Tensor, scores, scale)
            if mask is not None:
                scores = call(graph, aten.add.Tensor, scores, mask)
            mixed = call(graph, aten.matmul.default, call(graph, aten.softmax.int, scores, -1), v)
        node.replace_all_uses_with(mixed)
        graph.erase_node(node)


def _same_type(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device


def _erase_no_ops(graph: fx.Graph) -> None:
    """Remove calls that return their first argument unchanged, so that no rule need know them.

    The strides of values are then no longer those traced, so views become reshapes.
    """
    for node in list(graph.nodes):
        op = target_of(node)
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        is_no_op = (
            op in (aten.alias, aten.contiguous, aten.lift_fresh_copy, aten.detach_)
            or (op is aten.dropout and not node.args[2])
            or (op is aten.slice and shape_of(node) == shape_of(node.args[0]))
            or (op in (aten.to, aten.type_as) and _same_type(node.meta["val"], node.args[0].meta["val"]))
        )
        if node.op == "call_function" and is_no_op:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _twins(graph: fx.Graph, sites: list[fx.Node], logits: fx.Node, output: fx.Node) -> dict[fx.Node, fx.Node]:
    """Copy what follows the last block's attention; the copies' logits become the graph's."""
    after = {site: dependents(graph.nodes, [site]) - {site} for site in sites}
    last = [site for site in sites if after[site].isdisjoint(sites)]
    tail = set().union(*(after[site] for site in last)) & ancestors(logits)
    copies = copy_nodes(graph, [node for node in graph.nodes if node in tail], output)
    output.replace_input_with(logits, copies[logits])
    return copies


def dependents(nodes: Iterable[fx.Node], roots: Iterable[fx.Node]) -> set[fx.Node]:
    """``roots`` and those of ``nodes``, given in execution order, whose values depend on theirs (not on sizes only)."""
    found = set(roots)
    for node in nodes:
        if target_of(node) is not aten.sym_size and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def ancestors(node: fx.Node, given: Collection[fx.Node] = ()) -> set[fx.Node]:
    """``node`` and all it is computed from, where the values of ``given`` are not computed."""
    found, open_nodes = {node}, [node]
    while open_nodes:
        new = set(open_nodes.pop().all_input_nodes) - found
        found |= new
        open_nodes.extend(new.difference(given))
    return found


def _attention_sites(graph: fx.Graph) -> list[fx.Node]:
    """The softmax nodes that stand on the left of a matrix product."""
    sites = [
        node
        for node in graph.nodes
        if target_of(node) in SOFTMAX and any(target_of(u) in MATMUL and u.args[0] is node for u in node.users)
    ]
    if not sites:
        raise GraphError("no attention found in the model: no softmax whose result multiplies values")
    return sites


def interpret(nodes: Sequence[fx.Node], values: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
    """Run ``nodes``, in order, given the values of what they need; returns ``values``, to which theirs are added."""
    for node in nodes:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
        values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return values
