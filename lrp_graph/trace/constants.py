"""Constant folding: what a model computes from its weights alone, such as interpolated position embeddings.

Left in the graph, each program that runs it would compute it in its own way and dtype: an exporter rounds to float32
what a comparison in float64 does not, and relevance can make that difference a thousand times larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx

from ..in_double import in_double
from .canonicalize import is_view
from .rewrite import ancestors, interpret

FOLDED_IN_DOUBLE = {torch.float32, torch.int64, torch.int32, torch.bool}
"""The dtypes of what is computed again in float64."""
ROUNDING = 64 * torch.finfo(torch.float32).eps
"""The most that float32's arithmetic is taken to be off by rounding, relative to the greatest value."""


class Folded(NamedTuple):
    """What is computed from weights alone.

    Attributes:
        value: The tensor.
        exact: If it was asked for, the same computed in float64, where that is the same but for rounding.
        weights: The placeholders of the weights and constants that it is computed from.
    """

    value: Tensor
    exact: Tensor | None
    weights: frozenset[fx.Node]


def fold_weights(graph: fx.Graph, known: Mapping[fx.Node, Tensor], exact: bool = False) -> dict[fx.Node, Folded]:
    """Put placeholders in place of what is computed from ``known`` alone. Views stay, as they compute nothing.

    Args:
        graph: The graph, which is changed.
        known: By placeholder, the weights and constants.
        exact: Whether to compute values that are not rounded to float32 as well.

    Returns:
        By new placeholder, what it stands for.
    """
    constant: list[fx.Node] = []  # depend on weights alone
    computed: set[fx.Node] = set()  # those of them that are more than views of weights
    known_nodes = set(known)
    for node in graph.nodes:
        if node.op == "call_function" and known_nodes.issuperset(node.all_input_nodes):
            known_nodes.add(node)
            constant.append(node)
            made = bool(node.all_input_nodes) and not is_view(node)
            if made or not computed.isdisjoint(node.all_input_nodes):
                computed.add(node)
    with torch.no_grad():
        values = interpret(constant, dict(known))
    folded = {}
    for node in constant:
        if node in computed and isinstance(values[node], Tensor) and not known_nodes.issuperset(node.users):
            with graph.inserting_before(next(iter(graph.nodes))):
                placeholder = graph.placeholder(f"{node.name}_of_weights")
            placeholder.meta.update(node.meta)
            node.replace_all_uses_with(placeholder, lambda user: user not in known_nodes)
            value = _in_double(node, constant, known, values[node], False).detach().clone().to(values[node].dtype)
            full = _in_double(node, constant, known, values[node], True).detach().clone() if exact else None
            folded[placeholder] = Folded(value, full, frozenset(ancestors(node) & known.keys()))
    return folded


def _in_double(
    node: fx.Node, constant: list[fx.Node], known: Mapping[fx.Node, Tensor], value: Tensor, exact: bool
) -> Tensor:
    """The value of ``node`` computed in float64, where float32's ``value`` differs by rounding only; else ``value``.

    What rounds on purpose, as floor does, or has other dtypes, stays as the model computes it. ``exact`` is as for
    ``in_double``.
    """
    chain = ancestors(node)
    dtypes = {each.meta["val"].dtype for each in chain if isinstance(each.meta.get("val"), Tensor)}
    if value.dtype != torch.float32 or not value.numel() or not dtypes <= FOLDED_IN_DOUBLE:
        return value
    weights = {each: known[each] for each in chain & known.keys()}
    wide = {each: tensor.double() if tensor.is_floating_point() else tensor for each, tensor in weights.items()}
    try:
        with torch.no_grad(), in_double(exact):
            double: Tensor = interpret([each for each in constant if each in chain], wide)[node]
    except Exception:  # an op that asks for float32
        return value
    rounded = double.to(value.dtype)  # out here, as in_double() would take it for float64
    same = rounded.shape == value.shape and bool((rounded - value).abs().max() <= ROUNDING * value.abs().max())
    return double if same else value
