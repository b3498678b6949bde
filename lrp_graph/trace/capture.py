"""Step 1: a model becomes a flat ATen graph in which every attention matrix is a value of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from .canonicalize import one_spelling
from .constants import fold_weights
from .hoist_selection import move_selection_up
from .rewrite import GraphError, ancestors, call, copy_nodes, dependents, length, shape_of, target_of

aten = torch.ops.aten

SOFTMAX = (aten.softmax, aten._softmax)
MATMUL = (aten.matmul, aten.bmm)
UNCHANGED = (aten.to, aten._to_copy, aten.type_as, aten.clone, aten.expand, aten.reshape, aten._unsafe_view)
"""What may stand between the softmax and the product: the matrix in another type or shape."""


@dataclass(frozen=True)
class Trace:
    """The ATen graph of one forward pass.

    nodes: the calls that the logits and the whole logits depend on, in execution order, attention written out as
        ``softmax(q k' * scale + mask) v``.
    pixels, logits: the graph's input node and its output node.
    whole: the same logits out of a last block that computes every token, where ``logits`` need the rows read only.
    sites: the attention matrices [batch, heads, tokens, tokens], softmax nodes whose result weights values: one per
        attention layer, first to last, all of one shape.
    pool: that of an attention pool, in which one query of the head's attends to the tokens of the last layer, if any.
    weights: placeholder node to the path of the parameter or buffer in the model that it stands for.
    constants: placeholder node to a tensor that the model keeps in neither, or that is computed from weights alone.
    """

    nodes: tuple[fx.Node, ...]
    pixels: fx.Node
    logits: fx.Node
    whole: fx.Node
    sites: tuple[fx.Node, ...]
    weights: dict[fx.Node, str]
    constants: dict[fx.Node, Tensor]
    pool: fx.Node | None = None

    @property
    def attention(self) -> tuple[fx.Node, ...]:
        """All attention matrices, the pool's last."""
        return self.sites if self.pool is None else (*self.sites, self.pool)


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Trace ``model`` in evaluation mode with a dynamic batch.

    example: [1, 3, H, W]; its height and width become fixed.
    Raises GraphError if the model cannot be traced, does not return one [batch, classes] tensor, or has no attention,
    or another than over all tokens.
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
    signature = program.graph_signature
    paths = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    placeholders = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    pixels = placeholders[signature.user_inputs[0]]
    one_spelling(graph)
    weights = {placeholders[name]: path for name, path in paths.items()}
    constants = {placeholders[name]: program.constants[path] for name, path in lifted.items()}
    kept = {**program.constants, **program.state_dict}
    constants |= fold_weights(graph, {**{node: kept[path] for node, path in weights.items()}, **constants})
    (output,) = (node for node in graph.nodes if node.op == "output")
    results = output.args[0]
    if len(results) != 1 or len(shape_of(results[0])) != 2:
        shapes = [shape_of(node) for node in results if isinstance(node, fx.Node)]
        raise GraphError(f"the model must return one tensor [batch, classes]; it returns {shapes}")
    whole = results[0]
    chance = [
        node for node in ancestors(whole) if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    ]
    if chance:
        raise GraphError(f"the model draws random numbers, so there is no one answer to explain: {chance[0].name}")
    sites = _attention_sites(graph, pixels, whole)
    pool = sites[-1] if _is_pool(sites) else None
    layers = sites if pool is None else sites[:-1]
    _require_all_tokens(layers, shape_of(pixels)[0])
    twins = _twins(graph, sites, whole, output)
    move_selection_up(graph, set(twins.values()))
    logits = output.args[0][0]
    needed = ancestors(logits) | ancestors(whole)
    calls = tuple(node for node in graph.nodes if node in needed and node.op == "call_function")
    return Trace(
        nodes=calls,
        pixels=pixels,
        logits=logits,
        whole=whole,
        sites=tuple(layers),
        weights=weights,
        constants=constants,
        pool=pool,
    )


def _is_pool(sites: list[fx.Node]) -> bool:
    """Whether the last attention is that of one query of the head's own."""
    return len(sites) > 1 and len(shape_of(sites[-1])) == 4 and shape_of(sites[-1])[-2] == 1 != shape_of(sites[0])[-2]


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
            "only attention over all tokens of the picture can be explained, in every layer with the same tokens and "
            f"heads, and a pool of one query on top; attention layer {number} of {len(layers)} {reason}"
        )


def _twins(graph: fx.Graph, sites: list[fx.Node], logits: fx.Node, output: fx.Node) -> dict[fx.Node, fx.Node]:
    """Copy what follows the last block's attention; the copies' logits become the graph's."""
    after = {site: dependents(graph.nodes, [site]) - {site} for site in sites}
    last = [site for site in sites if after[site].isdisjoint(sites)]
    tail = set().union(*(after[site] for site in last)) & ancestors(logits)
    copies = copy_nodes(graph, [node for node in graph.nodes if node in tail], output)
    output.replace_input_with(logits, copies[logits])
    return copies


def _attention_sites(graph: fx.Graph, pixels: fx.Node, logits: fx.Node) -> list[fx.Node]:
    """The softmax results that stand on the left of a matrix product, in the shape [batch, heads, queries, keys].

    Only those on the way to ``logits``. Raises GraphError if there are none, or others that look like attention.
    """
    before, varying = ancestors(logits), dependents(graph.nodes, [pixels])
    needed = [node for node in graph.nodes if node in before and node in varying]
    found: dict[fx.Node, fx.Node] = {}
    for node in needed:
        if target_of(node) in MATMUL:
            way = [node.args[0]]
            while target_of(way[-1]) in UNCHANGED:
                way.append(way[-1].args[0])
            if target_of(way[-1]) in SOFTMAX:
                site = next((value for value in way if len(shape_of(value)) == 4), way[-1])
                with_heads = site if len(shape_of(site)) == 4 else _with_heads(graph, site, shape_of(pixels)[0])
                found.setdefault(way[-1], with_heads)
    for node in needed:
        shape = shape_of(node)
        if target_of(node) in SOFTMAX and node not in found and len(shape) > 2 and shape[-2] == shape[-1]:
            raise GraphError(
                f"the attention matrix {node.name} {list(shape)} is changed before it weighs the values (by gates, "
                "talking heads, differences), which is not supported"
            )
    if not found:
        raise GraphError("no attention found in the model: no softmax whose result multiplies values")
    return list(found.values())


def _with_heads(graph: fx.Graph, softmax: fx.Node, batch: torch.SymInt) -> fx.Node:
    """The same matrix with an axis of heads, which [batch * heads, queries, keys] has not, put in its place."""
    size, *matrix = shape_of(softmax)
    heads = length(size) // length(batch)
    if len(matrix) != 2 or size != batch * heads:
        return softmax
    users = list(softmax.users)
    with graph.inserting_after(softmax):
        site = call(graph, aten.reshape.default, softmax, [-1, heads, *matrix])
    with graph.inserting_after(site):
        flat = call(graph, aten.reshape.default, site, [-1, *matrix])
    for user in users:
        user.replace_input_with(softmax, flat)
    return site
