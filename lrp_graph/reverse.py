"""Step 3: one walk over the traced graph, last node to first, driven by a table of rules.

With the vector-Jacobian products of ``gradient.py`` the walk yields gradients, with the rules of ``relevance.py`` it
yields relevance; the walk itself knows no op. What it carries back for a value [batch, ...] is called its share and has
one axis more, [targets, batch, ...]: values stay as the forward pass left them, and because every rule counts
dimensions from the right, broadcasting serves any number of targets at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .rewrite import shape_of, target_of
from .trace import Trace


@dataclass(frozen=True)
class Call:
    """One node, seen from its output: the values it took and gave, and which arguments vary with the image."""

    out: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    varies: tuple[bool, ...]


Rule = Callable[[Any, Call], Sequence[Any]]
"""(share of the output, call) -> shares of the positional arguments; arguments that do not vary need none."""

Table = Mapping[Any, Rule]


class MissingRuleError(NotImplementedError):
    """Ops on the way from the logits to the first attention for which a table has no rule; lists them all."""


def first(rule: Callable[..., Tensor]) -> Rule:
    """A rule for the first argument only: ``rule(share, out, *args, **kwargs)``."""
    return lambda share, call: (rule(share, call.out, *call.args, **call.kwargs),)


def live_nodes(trace: Trace) -> set[fx.Node]:
    """The nodes that depend on some attention matrix; the walk ends where they end."""
    return _dependents(trace, trace.sites)


def _dependents(trace: Trace, roots: Iterable[fx.Node]) -> set[fx.Node]:
    found = set(roots)
    for node in trace.nodes:
        if target_of(node) is not torch.ops.aten.sym_size and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def require_rules(trace: Trace, table: Table, name: str) -> None:
    """Raise MissingRuleError unless ``table`` covers every node that the walk will visit."""
    live = live_nodes(trace)
    missing = [
        f"{target_of(node)} (node {node.name}, shape {shape_of(node)})"
        for node in trace.nodes
        if not live.isdisjoint(node.all_input_nodes) and target_of(node) not in (*table, operator.getitem)
    ]
    if missing:
        raise MissingRuleError(f"the {name} table has no rule for: {'; '.join(missing)}")


def reverse(trace: Trace, values: Mapping[fx.Node, Any], seed: Tensor, table: Table) -> list[Tensor]:
    """Carry ``seed`` from the logits back to every attention matrix.

    values: the result of every node in the forward pass.
    seed: [targets, batch, classes], the share of the logits.
    Returns one [targets, batch, heads, queries, keys] for each of ``trace.sites``.
    """
    live, varying = live_nodes(trace), _dependents(trace, [trace.pixels])
    shares: dict[fx.Node, Any] = {trace.logits: seed}

    def value(arg: Any) -> Any:
        return fx.node.map_arg(arg, values.__getitem__)

    def give(arg: Any, share: Any) -> None:
        if isinstance(arg, fx.Node):
            if arg in live:
                shares[arg] = shares[arg] + share if arg in shares else share
        else:
            for inner, part in zip(arg, share, strict=True):
                give(inner, part)

    for node in reversed(trace.nodes):
        if node not in shares or live.isdisjoint(node.all_input_nodes):
            continue
        share = shares[node] if node in trace.sites else shares.pop(node)
        if node.target is operator.getitem:
            source, index = node.args
            shares.setdefault(source, [None] * len(values[source]))[index] = share  # type: ignore[arg-type, index]
            continue
        out = values[node]
        if isinstance(share, list):
            share = [seed.new_zeros(len(seed), *o.shape) if s is None else s for s, o in zip(share, out, strict=True)]
        varies = tuple(not varying.isdisjoint(_nodes(arg)) for arg in node.args)
        call = Call(out, value(node.args), value(node.kwargs), varies)
        for arg, part in zip(node.args, table[target_of(node)](share, call), strict=False):
            if not live.isdisjoint(_nodes(arg)):
                give(arg, part)
    empty = values[trace.logits].new_zeros
    return [shares[site] if site in shares else empty(len(seed), *values[site].shape) for site in trace.sites]


def _nodes(arg: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.node.map_arg(arg, found.append)
    return found


def unbroadcast(share: Tensor, x: Any) -> Tensor:
    """Sum a share over the axes along which ``x`` was repeated to reach the share's shape."""
    extra = share.dim() - 1 - x.dim()
    repeated = [axis for axis in range(-x.dim(), 0) if x.shape[axis] == 1 and share.shape[axis] != 1]
    if repeated:
        share = share.sum(repeated, keepdim=True)
    return share.sum(list(range(1, 1 + extra))) if extra else share
