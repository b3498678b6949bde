"""Step 3: a backward pass over the traced graph, last node to first, driven by a table of rules.

With the vector-Jacobian products of ``rules/vjp.py`` it yields gradients, with the rules of ``rules/chefer.py`` and
``rules/attnlrp.py`` relevance; the loop itself knows no op. What it carries back for a value [batch, …] is called the
value's cotangent, whichever the rules are, and has one axis more: [targets, batch, …]. The values stay as the forward
pass left them, and as every rule counts dimensions from the right, broadcasting covers any number of targets.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from .trace.capture import Trace
from .trace.rewrite import dependents, shape_of, target_of, value_inputs


@dataclass(frozen=True)
class Call:
    """One call in the forward pass, as a rule sees it.

    Attributes:
        out: What it returned.
        args: The values of its positional arguments.
        kwargs: Those of the others.
        varies: For each positional argument, whether it depends on the image.
    """

    out: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    varies: tuple[bool, ...]


Rule = Callable[[Any, Call], Sequence[Any]]
"""(cotangent of the output, call) -> cotangents of the positional arguments, in their order.

None stands for an argument without one, and so does the end of a shorter sequence.
"""

Table = Mapping[Any, Rule]
"""By ATen op, overloads not distinguished."""


class MissingRuleError(NotImplementedError):
    """Ops for which a backward pass has no rule; lists them all, each with the first node that calls it."""


@dataclass(frozen=True)
class _WrtFirst:
    rule: Callable[..., Any]

    def __call__(self, cotangent: Any, call: Call) -> Sequence[Any]:
        return (self.rule(cotangent, call.out, *call.args, **call.kwargs),)


def wrt_first(rule: Callable[..., Any]) -> Rule:
    """The rule of an op with respect to (wrt) its first argument only: ``rule(cotangent, out, *args, **kwargs)``."""
    return _WrtFirst(rule)


@dataclass(frozen=True)
class Propagator:
    """The rules of one kind of backward pass.

    Attributes:
        table: The rules.
        special: The rules of the nodes in ``special_nodes``.
        special_nodes: Those with rules of their own, such as all before the first block.
        constant: Nodes whose values count as constants; nothing is propagated through them.
    """

    table: Table
    special: Table = field(default_factory=dict)
    special_nodes: frozenset[fx.Node] = frozenset()
    constant: frozenset[fx.Node] = frozenset()

    def rule(self, node: fx.Node) -> Rule | None:
        """The rule of the op that ``node`` calls, None without one."""
        return (self.special if node in self.special_nodes else self.table).get(target_of(node))

    def covers(self, node: fx.Node, live: set[fx.Node]) -> bool:
        """Whether there is a rule for ``node``, and one that gives a cotangent to every argument in ``live``."""
        rule = self.rule(node)
        if rule is None:
            return False
        beyond = _nodes([node.args[1:] if isinstance(rule, _WrtFirst) else (), node.kwargs])
        unreached = live & set(beyond) & set(value_inputs(node))
        return not any(argument.meta["val"].is_floating_point() for argument in unreached)

    def dependents(self, trace: Trace, roots: Iterable[fx.Node]) -> set[fx.Node]:
        """``roots`` and all that varies with them."""
        return dependents([node for node in trace.nodes if node not in self.constant], roots)


def require_rules(trace: Trace, propagator: Propagator, ends: Sequence[fx.Node], name: str) -> None:
    """Check that a backward pass from the logits to ``ends`` has all rules.

    A rule with respect to the first argument, say a layer's input, is not enough where the others vary as well.

    Args:
        trace: The model's graph.
        propagator: The rules.
        ends: The nodes whose cotangents are wanted.
        name: What the backward pass is called in the message.

    Raises:
        MissingRuleError: Some rules are missing.
    """
    live = propagator.dependents(trace, ends)
    missing: dict[Any, fx.Node] = {}
    for node in trace.nodes:
        reached = node in live and not live.isdisjoint(node.all_input_nodes) and node.target is not operator.getitem
        if reached and not propagator.covers(node, live):
            missing.setdefault(target_of(node), node)
    if missing:
        places = (f"{op} (node {node.name}, shape {shape_of(node)})" for op, node in missing.items())
        raise MissingRuleError(f"the {name} has no rule for: {'; '.join(places)}")


def reverse(
    trace: Trace, values: Mapping[fx.Node, Any], output: fx.Node, seed: Tensor, propagator: Propagator,
    ends: Sequence[fx.Node],
) -> list[Tensor]:  # fmt: skip
    """Propagate ``seed`` from ``output`` back to ``ends``.

    Takes what ``reverse_each`` takes.

    Returns:
        The cotangent of each end, [targets, *node.shape], in their order.
    """
    found = dict(reverse_each(trace, values, output, seed, propagator, ends))
    return [found[node] for node in ends]


def reverse_each(
    trace: Trace, values: Mapping[fx.Node, Any], output: fx.Node, seed: Tensor, propagator: Propagator,
    ends: Sequence[fx.Node],
) -> Iterator[tuple[fx.Node, Tensor]]:  # fmt: skip
    """Propagate ``seed`` from ``output`` back to ``ends``, and stop at each of them.

    Args:
        trace: The model's graph.
        values: The result of every node in the forward pass.
        output: Where the backward pass starts.
        seed: [targets, *output.shape], the cotangent of ``output``.
        propagator: The rules, which must cover the way (see ``require_rules``).
        ends: The nodes whose cotangents are wanted: calls, or the pixels.

    Yields:
        Each end, the last of the trace first, with its cotangent, [targets, *node.shape]; zeros where ``output`` does
        not depend on it.
    """
    live, varying = propagator.dependents(trace, ends), propagator.dependents(trace, [trace.pixels])
    cotangents: dict[fx.Node, Any] = {output: seed}

    def zeros(like: Tensor) -> Tensor:
        return seed.new_zeros(seed.shape[0], *like.shape)

    def value(arg: Any) -> Any:
        return fx.node.map_arg(arg, values.__getitem__)

    for node in (*reversed(trace.nodes), trace.pixels):
        if node in ends:
            yield node, cotangents[node] if node in cotangents else zeros(values[node])
        cotangent = cotangents.pop(node, None)
        if cotangent is None or live.isdisjoint(node.all_input_nodes):
            continue
        if node.target is operator.getitem:
            source, index = node.args
            parts = cotangents.setdefault(source, [None] * len(values[source]))  # type: ignore[arg-type, index]
            parts[index] = cotangent
            continue
        out = values[node]
        if isinstance(cotangent, list):  # of an op with several results, some of which may have had no use
            cotangent = [zeros(o) if part is None else part for part, o in zip(cotangent, out, strict=True)]
        varies = tuple(not varying.isdisjoint(_nodes(arg)) for arg in node.args)
        rule = propagator.rule(node)
        assert rule is not None, node
        results = rule(cotangent, Call(out, value(node.args), value(node.kwargs), varies))
        for arg, result in zip(node.args, results, strict=False):
            if not live.isdisjoint(_nodes(arg)):
                for one, part in _by_node(arg, result):
                    if one in live and part is not None:  # what its other users gave it is added
                        cotangents[one] = cotangents[one] + part if one in cotangents else part


def _by_node(arg: Any, cotangent: Any) -> Iterator[tuple[fx.Node, Any]]:
    """Each node in an argument, which may be a list of some, with its part of the cotangent."""
    if isinstance(arg, fx.Node):
        yield arg, cotangent
    else:
        for inner, part in zip(arg, cotangent, strict=True):
            yield from _by_node(inner, part)


def _nodes(arg: Any) -> list[fx.Node]:
    """The nodes in an argument, which may be a list of some."""
    found: list[fx.Node] = []
    fx.node.map_arg(arg, found.append)
    return found


def unbroadcast(cotangent: Tensor, x: Any) -> Tensor:
    """Sum a cotangent over the axes along which ``x`` was repeated to reach the cotangent's shape."""
    extra = cotangent.dim() - 1 - x.dim()
    repeated = [axis for axis in range(-x.dim(), 0) if x.shape[axis] == 1 and cotangent.shape[axis] != 1]
    if repeated:
        cotangent = cotangent.sum(repeated, keepdim=True)
    return cotangent.sum(list(range(1, 1 + extra))) if extra else cotangent
