"""Step 3: one propagator over the traced graph, last node to first, driven by a table of rules.

With the vector-Jacobian products of ``rules/vjp.py`` the propagator yields gradients, with the rules of ``rules/chefer.py``
relevance; the propagator itself knows no op. What it carries back for a value [batch, ...] is called its share and has
one axis more, [targets, batch, ...]: values stay as the forward pass left them, and because every rule counts
dimensions from the right, broadcasting serves any number of targets at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from .trace.capture import Trace
from .trace.rewrite import dependents, inputs, shape_of, target_of


@dataclass(frozen=True)
class Call:
    """One node, seen from its output: the values it took and gave, and which arguments vary with the image."""

    out: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    varies: tuple[bool, ...]


Rule = Callable[[Any, Call], Sequence[Any]]
"""(share of the output, call) -> shares of the positional arguments; None, or none at all, where there is none."""

Table = Mapping[Any, Rule]


class MissingRuleError(NotImplementedError):
    """Ops on the way back for which a table has no rule; lists them all, each with its first place."""


@dataclass(frozen=True)
class _First:
    rule: Callable[..., Any]

    def __call__(self, share: Any, call: Call) -> Sequence[Any]:
        return (self.rule(share, call.out, *call.args, **call.kwargs),)


def first(rule: Callable[..., Any]) -> Rule:
    """A rule for the first argument only: ``rule(share, out, *args, **kwargs)``."""
    return _First(rule)


@dataclass(frozen=True)
class Propagator:
    """One way back through a trace.

    table: the rules. stem: those of the nodes in ``embedding``, if they are others.
    constant: nodes whose values count as constants; no share passes through them.
    """

    table: Table
    stem: Table | None = None
    embedding: frozenset[fx.Node] = frozenset()
    constant: frozenset[fx.Node] = frozenset()

    def rule(self, node: fx.Node) -> Rule | None:
        table = self.table if self.stem is None or node not in self.embedding else self.stem
        return table.get(target_of(node))

    def serves(self, node: fx.Node, live: set[fx.Node]) -> bool:
        """Whether there is a rule, and one that gives a share to every argument in ``live``."""
        rule = self.rule(node)
        others = _nodes([node.args[1:] if isinstance(rule, _First) else (), node.kwargs])
        read = live & set(others) & set(inputs(node))
        return rule is not None and not any(other.meta["val"].is_floating_point() for other in read)

    def reachable(self, trace: Trace, roots: Iterable[fx.Node]) -> set[fx.Node]:
        """``roots`` and all that varies with them."""
        return dependents([node for node in trace.nodes if node not in self.constant], roots)


def require_rules(trace: Trace, propagator: Propagator, wanted: Sequence[fx.Node], name: str) -> None:
    """Raise MissingRuleError unless ``propagator``, called ``name``, has a rule for every node on the way to ``wanted``.

    A rule for the first argument, say a layer's input, does not do where the others vary as well.
    """
    live = propagator.reachable(trace, wanted)
    missing: dict[Any, fx.Node] = {}
    for node in trace.nodes:
        passes = node in live and not live.isdisjoint(node.all_input_nodes) and node.target is not operator.getitem
        if passes and not propagator.serves(node, live):
            missing.setdefault(target_of(node), node)
    if missing:
        places = (f"{op} (node {node.name}, shape {shape_of(node)})" for op, node in missing.items())
        raise MissingRuleError(f"the {name} has no rule for: {'; '.join(places)}")


def reverse(
    trace: Trace,
    values: Mapping[fx.Node, Any],
    output: fx.Node,
    seed: Tensor,
    propagator: Propagator,
    wanted: Sequence[fx.Node],
) -> list[Tensor]:
    """Carry ``seed`` from ``output`` back to ``wanted``.

    values: the result of every node in the forward pass.
    seed: [targets, *output.shape], the share of the output.
    Returns the share of every wanted node, [targets, *node.shape]; zeros where ``output`` does not depend on it.
    """
    live, varying = propagator.reachable(trace, wanted), propagator.reachable(trace, [trace.pixels])
    shares: dict[fx.Node, Any] = {output: seed}

    def nothing(like: Tensor) -> Tensor:
        return seed.new_zeros(seed.shape[0], *like.shape)

    def value(arg: Any) -> Any:
        return fx.node.map_arg(arg, values.__getitem__)

    def give(arg: Any, share: Any) -> None:
        if isinstance(arg, fx.Node):
            if arg in live and share is not None:
                shares[arg] = shares[arg] + share if arg in shares else share
        else:
            for inner, part in zip(arg, share, strict=True):
                give(inner, part)

    for node in reversed(trace.nodes):
        if node not in shares or live.isdisjoint(node.all_input_nodes):
            continue
        share = shares[node] if node in wanted else shares.pop(node)
        if node.target is operator.getitem:
            source, index = node.args
            shares.setdefault(source, [None] * len(values[source]))[index] = share  # type: ignore[arg-type, index]
            continue
        out = values[node]
        if isinstance(share, list):
            share = [
                seed.new_zeros(seed.shape[0], *o.shape) if s is None else s for s, o in zip(share, out, strict=True)
            ]
        varies = tuple(not varying.isdisjoint(_nodes(arg)) for arg in node.args)
        rule = propagator.rule(node)
        assert rule is not None, node
        parts = rule(share, Call(out, value(node.args), value(node.kwargs), varies))
        for arg, part in zip(node.args, parts, strict=False):
            if not live.isdisjoint(_nodes(arg)):
                give(arg, part)
    return [shares[node] if node in shares else nothing(values[node]) for node in wanted]


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
