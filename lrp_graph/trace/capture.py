"""Step 1: a model becomes a flat ATen graph in which every attention matrix is a value of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from ..torch_internals import traced_length
from .canonicalize import canonicalize
from .constants import fold_weights
from .hoist_selection import hoist_selection
from .rewrite import GraphError, ancestors, call, copy_nodes, dependents, shape_of, target_of

aten = torch.ops.aten

SOFTMAX = (aten.softmax, aten._softmax)
MATMUL = (aten.matmul, aten.bmm)
SAME_MATRIX = (aten.to, aten._to_copy, aten.type_as, aten.clone, aten.expand, aten.reshape, aten._unsafe_view)
"""What may stand between the softmax and the product with the values: the same matrix in another dtype or shape."""


@dataclass(frozen=True)
class Trace:
    """The ATen graph of one forward pass.

    Attributes:
        nodes: The calls that ``logits`` and ``full_logits`` depend on, in execution order, attention written out as
            ``softmax(q k' * scale + mask) v``.
        pixels: The graph's input.
        logits: The graph's output, out of a last block that computes only the token rows that the head reads.
        full_logits: The same logits out of a last block that computes every token.
        layer_attention: The attention matrices [batch, heads, tokens, tokens], softmax nodes whose results weight
            values: one for each attention layer, first to last, all of one shape.
        weights: For the placeholder of each parameter and buffer, its path in the model.
        constants: For each other placeholder, its tensor: one that the model keeps as neither, or that is computed from
            weights alone.
        pool_attention: The matrix [batch, heads, 1, tokens] of an attention pool, in which one query of the head's
            attends to the tokens of the last layer, if there is one.
        exact: For the placeholders of those that are computed, the tensors computed in float64, if they were asked for.
        origins: For the placeholder of each constant that is computed from weights alone, the paths of these.
    """

    nodes: tuple[fx.Node, ...]
    pixels: fx.Node
    logits: fx.Node
    full_logits: fx.Node
    layer_attention: tuple[fx.Node, ...]
    weights: dict[fx.Node, str]
    constants: dict[fx.Node, Tensor]
    pool_attention: fx.Node | None = None
    exact: Mapping[fx.Node, Tensor] = field(default_factory=dict)
    origins: Mapping[fx.Node, tuple[str, ...]] = field(default_factory=dict)

    @property
    def attention_nodes(self) -> tuple[fx.Node, ...]:
        """All attention matrices, the pool's last."""
        return self.layer_attention if self.pool_attention is None else (*self.layer_attention, self.pool_attention)


def trace(model: nn.Module, example: Tensor, exact: bool = False) -> Trace:
    """Trace ``model`` in evaluation mode with a dynamic batch; its own modes are restored.

    Args:
        model: An image classifier, [batch, 3, H, W] -> logits [batch, classes].
        example: [1, 3, H, W]; its height and width become fixed.
        exact: Whether to compute what depends on weights alone without rounding it to float32 as well.

    Returns:
        The graph, in canonical form.

    Raises:
        GraphError: The model cannot be traced, does not return one [batch, classes] tensor, draws random numbers, or
            has no attention, or another than over all tokens.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        pair = torch.cat([example, example])  # a batch of 1 would become a constant
        program = torch.export.export(model, (pair,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    except Exception as error:  # whatever the model raises when it is run on the example
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GraphError(f"torch.export cannot trace {type(model).__name__}: {reason}") from error
    finally:
        for module, training in modes.items():
            module.training = training
    return _read(program, exact)


def _read(program: ExportedProgram, exact: bool) -> Trace:
    graph = program.graph
    signature = program.graph_signature
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    pixels = placeholders[signature.user_inputs[0]]
    canonicalize(graph)
    weights = {placeholders[name]: path for name, path in paths.items()}
    constants = {placeholders[name]: program.constants[path] for name, path in lifted.items()}
    tensors = {**program.constants, **program.state_dict}
    folded = fold_weights(graph, {**{node: tensors[path] for node, path in weights.items()}, **constants}, exact)
    constants |= {node: item.value for node, item in folded.items()}
    (output,) = graph.find_nodes(op="output")
    full_logits = _logits_of(output)
    attention_nodes = _attention_nodes(graph, pixels, full_logits)
    pool = attention_nodes[-1] if _is_pool(attention_nodes) else None
    layers = attention_nodes if pool is None else attention_nodes[:-1]
    _require_all_tokens(layers, shape_of(pixels)[0])
    tail = _duplicate_tail(graph, attention_nodes, full_logits, output)
    hoist_selection(graph, tail)
    logits = output.args[0][0]
    needed = ancestors(logits) | ancestors(full_logits)
    return Trace(
        nodes=tuple(node for node in graph.nodes if node in needed and node.op == "call_function"),
        pixels=pixels,
        logits=logits,
        full_logits=full_logits,
        layer_attention=tuple(layers),
        weights=weights,
        constants=constants,
        pool_attention=pool,
        exact={node: item.exact for node, item in folded.items() if item.exact is not None},
        origins={node: tuple(weights[each] for each in item.weights & weights.keys()) for node, item in folded.items()},
    )


def _logits_of(output: Any) -> fx.Node:
    """The one tensor [batch, classes] that the graph returns. Raises GraphError if it returns another, or chance."""
    results = output.args[0]
    if len(results) != 1 or len(shape_of(results[0])) != 2:
        shapes = [shape_of(node) for node in results if isinstance(node, fx.Node)]
        raise GraphError(f"the model must return one tensor [batch, classes]; it returns {shapes}")
    logits: fx.Node = results[0]
    for node in ancestors(logits):
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise GraphError(f"the model draws random numbers, so there is no one answer to explain: {node.name}")
    return logits


def _is_pool(attention_nodes: list[fx.Node]) -> bool:
    """Whether the last attention is that of one query of the head's own."""
    first, last = shape_of(attention_nodes[0]), shape_of(attention_nodes[-1])
    return len(attention_nodes) > 1 and len(last) == 4 and last[-2] == 1 and first[-2] != 1


def _require_all_tokens(layers: list[fx.Node], batch: torch.SymInt) -> None:
    """Raise GraphError unless every layer has one attention matrix over the same tokens, of as many heads."""
    for number, node in enumerate(layers, 1):
        shape = shape_of(node)
        if len(shape) != 4:
            reason = f"has a matrix of the shape {list(shape)}"
        elif shape[0] != batch:
            reason = f"stays within windows of {shape[2]} tokens"
        elif shape[2] != shape[3]:
            reason = f"goes from {shape[2]} to {shape[3]} tokens"
        elif shape != shape_of(layers[0]):
            (heads, tokens, _), (_, before, count, _) = shape[1:], shape_of(layers[0])
            reason = f"has {heads} heads and {tokens} tokens, not {before} and {count} as layer 1"
        else:
            continue
        raise GraphError(
            "only attention over all tokens of the image can be explained, in every layer with the same tokens and "
            f"heads, and a pool of one query on top; attention layer {number} of {len(layers)} {reason}"
        )


def _duplicate_tail(
    graph: fx.Graph, attention_nodes: list[fx.Node], logits: fx.Node, output: fx.Node
) -> Collection[fx.Node]:
    """Copy what follows the last block's attention, and have the graph return the copy's logits; the copied nodes."""
    after = {node: dependents(graph.nodes, [node]) - {node} for node in attention_nodes}
    last = [node for node in attention_nodes if after[node].isdisjoint(attention_nodes)]  # several in parallel blocks
    tail = set().union(*(after[node] for node in last)) & ancestors(logits)
    copies = copy_nodes(graph, [node for node in graph.nodes if node in tail], output)
    output.replace_input_with(logits, copies[logits])
    return set(copies.values())


def _attention_nodes(graph: fx.Graph, pixels: fx.Node, logits: fx.Node) -> list[fx.Node]:
    """The softmax results that stand on the left of a matrix product, in the shape [batch, heads, queries, keys].

    Only those on the way to ``logits``. Raises GraphError if there are none, or others that look like attention.
    """
    before, varying = ancestors(logits), dependents(graph.nodes, [pixels])
    needed = [node for node in graph.nodes if node in before and node in varying]
    by_softmax: dict[fx.Node, fx.Node] = {}
    for node in needed:
        if target_of(node) in MATMUL:
            chain = _same_matrices(node.args[0])  # from the product back to the softmax
            softmax = chain[-1]
            if target_of(softmax) in SOFTMAX:
                with_heads = [matrix for matrix in chain if len(shape_of(matrix)) == 4]
                matrix = with_heads[0] if with_heads else _with_heads(graph, softmax, shape_of(pixels)[0])
                by_softmax.setdefault(softmax, matrix)
    for node in needed:
        shape = shape_of(node)
        if target_of(node) in SOFTMAX and node not in by_softmax and len(shape) > 2 and shape[-2] == shape[-1]:
            raise GraphError(
                f"the attention matrix {node.name} {list(shape)} is changed before it weighs the values (by gates, "
                "talking heads, differences), which is not supported"
            )
    if not by_softmax:
        raise GraphError("no attention found in the model: no softmax whose result multiplies values")
    return list(by_softmax.values())


def _same_matrices(matrix: Any) -> list[fx.Node]:
    """``matrix`` and, one after the other, the nodes that it is the same as but for dtype and shape."""
    chain = [matrix]
    while target_of(chain[-1]) in SAME_MATRIX:
        chain.append(chain[-1].args[0])
    return chain


def _with_heads(graph: fx.Graph, softmax: fx.Node, batch: torch.SymInt) -> fx.Node:
    """Put a matrix with an axis of heads in the place of one [batch * heads, queries, keys]; others stay."""
    size, *matrix = shape_of(softmax)
    heads = traced_length(size) // traced_length(batch)
    if len(matrix) != 2 or size != batch * heads:
        return softmax
    users = list(softmax.users)
    with graph.inserting_after(softmax):
        with_heads = call(graph, aten.reshape.default, softmax, [-1, heads, *matrix])
    with graph.inserting_after(with_heads):
        flat = call(graph, aten.reshape.default, with_heads, [-1, *matrix])
    for user in users:
        user.replace_input_with(softmax, flat)
    return with_heads
