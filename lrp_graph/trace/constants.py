"""What a model computes from its weights alone, such as interpolated positions: computed once, and rounded once.

Left in the graph, each program that runs it would compute it in its own way and type: an exporter rounds to float32
what a comparison in float64 does not, which relevance can make a thousand times larger.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from ..in_double import in_double
from .canonicalize import is_view
from .rewrite import ancestors, interpret

NARROW = {torch.float32, torch.int64, torch.int32, torch.bool}
"""The types of what is computed again in float64."""
ROUNDING = 64 * torch.finfo(torch.float32).eps
"""As a share of the greatest value, the most that float32's arithmetic is taken to be off for its rounding."""


def fold_weights(graph: fx.Graph, known: Mapping[fx.Node, Tensor]) -> dict[fx.Node, Tensor]:
    """Put placeholders in place of what is computed from ``known`` alone; what they stand for.

    known: the weights and constants. Views of them stay, as they compute nothing.
    """
    fixed: list[fx.Node] = []
    worked: set[fx.Node] = set()
    given = set(known)
    for node in graph.nodes:
        if node.op == "call_function" and given.issuperset(node.all_input_nodes):
            given.add(node)
            fixed.append(node)
            made = bool(node.all_input_nodes) and not is_view(node)
            if made or not worked.isdisjoint(node.all_input_nodes):
                worked.add(node)
    with torch.no_grad():
        values = interpret(fixed, dict(known))
    found = {}
    for node in fixed:
        if node in worked and isinstance(values[node], Tensor) and not given.issuperset(node.users):
            with graph.inserting_before(next(iter(graph.nodes))):
                stand_in = graph.placeholder(f"{node.name}_of_weights")
            stand_in.meta.update(node.meta)
            node.replace_all_uses_with(stand_in, lambda user: user not in given)
            found[stand_in] = _rounded_once(node, fixed, known, values[node]).detach().clone()
    return found


def _rounded_once(node: fx.Node, fixed: list[fx.Node], known: Mapping[fx.Node, Tensor], value: Tensor) -> Tensor:
    """``value``, which float32's arithmetic gave for ``node``, from float64's where that differs by rounding only.

    What rounds on purpose, as floor does, or has numbers of other types, stays as the model computes it.
    """
    chain = ancestors(node)
    kinds = {each.meta["val"].dtype for each in chain if isinstance(each.meta.get("val"), Tensor)}
    if value.dtype != torch.float32 or not value.numel() or not kinds <= NARROW:
        return value
    weights = {each: known[each] for each in chain & known.keys()}
    wide = {each: tensor.double() if tensor.is_floating_point() else tensor for each, tensor in weights.items()}
    try:
        with torch.no_grad(), in_double():
            exact = interpret([each for each in fixed if each in chain], wide)[node]
    except Exception:  # an op that asks for float32
        return value
    exact = exact.to(value.dtype)  # out here, as in_double() would take it for float64
    same = exact.shape == value.shape and bool((exact - value).abs().max() <= ROUNDING * value.abs().max())
    return exact if same else value
