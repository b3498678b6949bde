"""One op at a time: a case is a function of a few tensors, traced by torch.export and reversed by the engine itself.

So a rule is tested with the arguments that torch.export really gives it. The batch is dynamic: traced with 2, run
with 3 samples. `SHAPE_OP_CASES` serve every table.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim

from onnxplain.lrp_graph.reverse import Call, Propagator, Rule, Table, reverse
from onnxplain.lrp_graph.trace.capture import Trace
from onnxplain.lrp_graph.trace.rewrite import target_of

aten = torch.ops.aten
Shape = tuple[int, ...]
BATCH, TARGETS = 3, 2


@dataclass(frozen=True, eq=False)
class Case:
    """``run(*varying, *constants)`` calls ``op``.

    varying: shapes of the tensors that depend on the image, without their batch axis. constants: full shapes of the
    others. textbook: the shares of the varying tensors by formula, ``textbook(share, *tensors)``.
    """

    op: Any
    run: Callable[..., Tensor]
    varying: Sequence[Shape] = ((4, 6),)
    constants: Sequence[Shape] = ()
    textbook: Callable[..., Any] | None = None

    def __str__(self) -> str:
        name = str(self.op).removeprefix("aten.")
        return "-".join([name, *("x".join(map(str, shape)) for shape in (*self.varying, *self.constants))])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """(varying, constant) tensors."""
    varying = [random(BATCH, *shape, seed=seed) for seed, shape in enumerate(case.varying)]
    return varying, [random(*shape, seed=10 + seed) for seed, shape in enumerate(case.constants)]


class _Module(nn.Module):
    def __init__(self, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.run(*tensors)


@cache
def traced(case: Case) -> tuple[Trace, list[fx.Node]]:
    """The case as a trace, and the constants' nodes.

    Its "pixels" are the list of varying tensors, its "attention nodes" one each.
    """
    varying = [random(2, *shape) for shape in case.varying]
    constants = [random(*shape) for shape in case.constants]
    sizes = ({0: Dim.DYNAMIC},) * len(varying) + (None,) * len(constants)
    program = torch.export.export(_Module(case.run), (*varying, *constants), dynamic_shapes=(sizes,), strict=False)
    graph = program.graph
    placeholders = list(graph.find_nodes(op="placeholder"))
    with graph.inserting_before(placeholders[0]):
        pixels = graph.placeholder("pixels")
    attention_nodes = []
    with graph.inserting_after(placeholders[-1]):
        for index, placeholder in enumerate(placeholders[: len(varying)]):
            attention_nodes.append(graph.call_function(operator.getitem, (pixels, index)))
            placeholder.replace_all_uses_with(attention_nodes[-1])
    (output,) = graph.find_nodes(op="output")
    (result,) = output.args[0]
    calls = [node for node in graph.nodes if node.op == "call_function" and (node.users or node is result)]
    assert case.op in map(target_of, calls), f"this case never calls {case.op}"
    nodes = attention_nodes + [node for node in calls if node not in attention_nodes]
    return Trace(tuple(nodes), pixels, result, result, tuple(attention_nodes), {}, {}), placeholders[len(varying) :]


def shares(case: Case, table: Table, varying: list[Tensor], constants: list[Tensor], seed: Tensor) -> list[Tensor]:
    """What the engine hands back to each varying tensor, with every axis that ``seed`` [targets, …] has."""
    trace, placeholders = traced(case)
    values: dict[fx.Node, Any] = {trace.pixels: varying, **dict(zip(placeholders, constants, strict=True))}
    for node in trace.nodes:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
        values[node] = node.target(*args, **kwargs)
    torch.testing.assert_close(values[trace.logits], case.run(*varying, *constants), rtol=0, atol=0, equal_nan=True)
    return reverse(trace, values, trace.logits, seed, Propagator(table), trace.layer_attention)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Same shape and dtype; the largest difference is small beside the largest expected value."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    assert float((actual - expected).abs().max()) <= tolerance * float(expected.abs().max())


def slightly_wrong(table: Table, op: Any) -> Table:
    """The table with the rule of one op off by a millionth."""

    def rule(share: Any, call: Call) -> Any:
        return fx.node.map_aggregate(tuple(right(share, call)), lambda s: s * 1.000001 if isinstance(s, Tensor) else s)

    right: Rule = table[op]
    return {**table, op: rule}


def where_moved(case: Case, share: Tensor, varying: list[Tensor]) -> list[Tensor]:
    """Shares of an op that only moves entries: send the entries' numbers through it and see where each one went."""
    sizes = [BATCH * torch.Size(shape).numel() for shape in case.varying]
    count = sum(sizes)
    numbers = torch.arange(count, dtype=torch.float64).split(sizes)
    elsewhere = [torch.full(shape, count, dtype=torch.float64) for shape in case.constants]
    origin = case.run(*[n.reshape(x.shape) for n, x in zip(numbers, varying, strict=True)], *elsewhere).long()
    found = torch.zeros(len(share), count + 1, dtype=torch.float64)
    for target, received in enumerate(share.double()):
        for place, value in zip(origin.flatten().tolist(), received.flatten().tolist(), strict=True):
            found[target, place] += value
    parts = found[:, :count].split(sizes, 1)
    return [part.reshape(len(share), *x.shape) for part, x in zip(parts, varying, strict=True)]


def _shuffled(parts: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Some of the parts, out of order: the others' shares are zero."""
    return torch.cat([parts[2], parts[0]], axis)


def _shuffle(x: Tensor, c: Tensor) -> Tensor:
    return x.gather(1, c.argsort(1)[:, :3].expand(x.shape[0], -1, -1))


def _shuffled_back(share: Tensor, x: Tensor, c: Tensor) -> Sequence[Tensor]:
    return [torch.zeros_like(x).scatter_add(0, c.argsort(1)[0, :3], share)]


def _padded(share: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(share[:, :1]), share], 1)


SHAPE_OP_CASES = (
    Case(aten.reshape, lambda x: x.reshape(x.shape[0], 4, 2, 3)),
    Case(aten.reshape, lambda x: x.reshape(-1, 6)),
    Case(aten._unsafe_view, lambda x: aten._unsafe_view(x, [-1, 3, 8])),
    Case(aten.flatten, lambda x: x.flatten(1)),
    Case(aten.flatten, lambda x: x.flatten(-2, -1)),
    Case(aten.flatten, lambda x: x.flatten(0, 1)),
    Case(aten.unflatten, lambda x: x.unflatten(-1, (2, 3))),
    Case(aten.unflatten, lambda x: x.unflatten(1, (2, -1))),
    Case(aten.squeeze, lambda x: x.squeeze(1), [(1, 4, 1)]),
    Case(aten.squeeze, lambda x: x.squeeze(-1), [(1, 4, 1)]),
    Case(aten.squeeze, lambda x: x.squeeze((1, -1)), [(1, 4, 1)]),
    Case(aten.squeeze, lambda x: x.squeeze(1), [(4, 1)]),  # nothing to squeeze
    Case(aten.unsqueeze, lambda x: x.unsqueeze(0)),
    Case(aten.unsqueeze, lambda x: x.unsqueeze(2)),
    Case(aten.unsqueeze, lambda x: x.unsqueeze(-1)),
    Case(aten.clone, lambda x: x.clone()),
    Case(aten.clone, lambda x: x.permute(0, 2, 1).clone(memory_format=torch.contiguous_format)),
    Case(aten.to, lambda x: x.float()),
    Case(aten.to, lambda x: x.to(torch.float32).to(torch.float64)),
    Case(aten.to, lambda x: x.to("cpu", torch.float32)),
    Case(aten._to_copy, lambda x: aten._to_copy(x, dtype=torch.float32)),
    Case(aten.type_as, lambda x, c: x.float().type_as(c), constants=[(2,)]),
    Case(aten.split, lambda x: _shuffled(x.split(2, -1))),
    Case(aten.split, lambda x: _shuffled(x.split(4, 2)), [(4, 9)]),  # the last one is shorter
    Case(aten.split_with_sizes, lambda x: _shuffled(x.split([1, 3, 2], -1))),
    Case(aten.split_with_sizes, lambda x: _shuffled(x.split([1, 2, 1], 1), 1)),
    Case(aten.chunk, lambda x: _shuffled(x.chunk(3, -1))),
    Case(aten.chunk, lambda x: _shuffled(x.chunk(3, 2)), [(4, 8)]),  # 3 + 3 + 2
    Case(aten.chunk, lambda x: x.chunk(4, 1)[1]),
    Case(aten.transpose, lambda x: x.transpose(1, 3), [(4, 5, 6)]),
    Case(aten.transpose, lambda x: x.transpose(-2, -1), [(4, 5, 6)]),
    Case(aten.transpose, lambda x: x.transpose(1, -1), [(4, 5, 6)]),
    Case(aten.transpose, lambda x: x.transpose(0, 1), [(4, 5, 6)]),
    Case(aten.permute, lambda x: x.permute(2, 0, 3, 1), [(4, 5, 6)]),
    Case(aten.permute, lambda x: x.permute(0, -1, 1, -2), [(4, 5, 6)]),
    Case(aten.select, lambda x: x.select(1, 2)),
    Case(aten.select, lambda x: x.select(1, -3)),
    Case(aten.select, lambda x: x[..., -1]),
    Case(aten.slice, lambda x: x[:, 1:]),
    Case(aten.slice, lambda x: x[:, 1:3]),
    Case(aten.slice, lambda x: x[:, :-1]),
    Case(aten.slice, lambda x: x[:, -3:]),
    Case(aten.slice, lambda x: x[:, -3:-1]),
    Case(aten.slice, lambda x: x[..., :4]),
    Case(aten.slice, lambda x: x[:, -9:2]),  # starts before the first
    Case(aten.slice, lambda x: aten.slice(x, -1, None, 2)),
    Case(aten.slice, lambda x: x[:, ::2]),
    Case(aten.slice, lambda x: x[..., 1::2]),
    Case(aten.slice, lambda x: x[:, 1:-1:3], [(9, 2)]),
    Case(aten.slice, lambda x: x[:, ::5]),  # the first entry alone
    Case(aten.gather, _shuffle, constants=[(1, 4, 6)], textbook=_shuffled_back),
    Case(aten.unbind, lambda x: _shuffled(x.unbind(1))),
    Case(aten.unbind, lambda x: _shuffled(x.unbind(-1))),
    Case(aten.unbind, lambda x: _shuffled(x.permute(2, 0, 1).unbind())),
    Case(aten.cat, lambda x, y: torch.cat([x, y], 1), [(4, 6), (2, 6)]),
    Case(aten.cat, lambda x, y: torch.cat([x, y], -1), [(4, 6), (4, 1)]),
    Case(aten.cat, lambda x, y: torch.cat([y, x, y], 2), [(4, 6), (4, 1)]),
    Case(aten.cat, lambda x, c: torch.cat([c.expand(x.shape[0], -1, -1), x], 1), constants=[(1, 2, 6)]),
    Case(aten.cat, lambda x: torch.cat([x, x])),
    Case(aten.stack, lambda x, y: torch.stack([x, y], 1), [(4, 6), (4, 6)]),
    Case(aten.stack, lambda x, y: torch.stack([x, y], -1), [(4, 6), (4, 6)]),
    Case(aten.stack, lambda x, y: torch.stack([y, x, y]), [(4, 6), (4, 6)]),
    Case(aten.stack, lambda x, c: torch.stack([x, c.expand(x.shape[0], -1, -1)], 2), constants=[(4, 6)]),
    Case(aten.expand, lambda x: x.expand(-1, 4, 6), [(1, 6)]),
    Case(aten.expand, lambda x: x.expand(5, -1, 4, 6), [(4, 1)]),
    Case(aten.expand, lambda x: x.unsqueeze(1).expand(-1, 5, -1, -1)),
    Case(aten.expand_as, lambda x, c: x.expand_as(c.expand(x.shape[0], -1, -1)), [(1, 6)], [(1, 4, 6)]),
    Case(aten.repeat, lambda x: x.repeat(1, 3, 2)),
    Case(aten.repeat, lambda x: x.repeat(2, 1, 1, 3)),
    Case(aten.repeat_interleave, lambda x: x.repeat_interleave(3, 1)),
    Case(aten.repeat_interleave, lambda x: x.repeat_interleave(2, -1)),
    Case(aten.movedim, lambda x: x.movedim(1, -1), [(4, 5, 6)]),
    Case(aten.movedim, lambda x: x.movedim((1, -1), (-1, 0)), [(4, 5, 6)]),
    Case(aten.moveaxis, lambda x: torch.moveaxis(x, -1, 1), [(4, 5, 6)]),
    Case(aten.reshape_as, lambda x, c: x.reshape_as(c.expand(x.shape[0], -1, -1)), constants=[(1, 3, 8)]),
    Case(aten.view_as, lambda x, c: x.view_as(c.expand(x.shape[0], -1, -1)), constants=[(1, 3, 8)]),
    Case(aten.pad, lambda x: nn.functional.pad(x, [-1, -2, 0, -1])),
    Case(aten.pad, lambda x: nn.functional.pad(x, [2, 1]), textbook=lambda share, x: [share[:, 2:-1]]),
    Case(aten.pad, lambda x: nn.functional.pad(x, [-1, 3]), textbook=lambda share, x: [_padded(share[:, :-3])]),
)


GEOMETRIES: tuple[tuple[Shape, Shape, dict[str, Any]], ...] = (
    ((2, 6, 9), (3, 2, 3, 3), {"stride": (3, 3)}),  # patches
    ((3, 4, 6), (2, 3, 2, 3), {"stride": (2, 3)}),
    ((2, 7, 7), (3, 2, 3, 3), {"stride": (2, 2)}),  # patches that overlap
    ((2, 8, 7), (3, 2, 3, 3), {"stride": (3, 3)}),  # pixels that no patch covers, at the border ...
    ((2, 8, 8), (3, 2, 2, 2), {"stride": (3, 3)}),  # ... and between patches
    ((2, 4, 5), (3, 2, 3, 3), {}),
    ((2, 5, 6), (3, 2, 3, 3), {"stride": (2, 1), "padding": (1, 2)}),
    ((2, 7, 8), (3, 2, 3, 2), {"stride": (1, 2), "dilation": (2, 3)}),
    ((4, 6, 6), (6, 2, 3, 3), {"stride": (3, 3), "groups": 2}),
    ((2, 5, 4), (3, 2, 2, 2), {"stride": (2, 2), "padding": "valid"}),
    ((4, 7, 8), (4, 2, 2, 3), {"stride": (2, 2), "padding": (1, 1), "dilation": (2, 1), "groups": 2}),
)


def convolutions(rule: Callable[..., Tensor] | None = None, channels: int | None = None) -> list[Case]:
    """A convolution of each geometry, every other one with a bias; ``rule(share, x, weight, bias, **geometry)``.

    channels: of the input instead of the geometry's, and no groups.
    """

    def case(number: int, shape: Shape, weight: Shape, geometry: dict[str, Any]) -> Case:
        if channels is not None:
            shape, weight = (channels, *shape[1:]), (weight[0], channels, *weight[2:])
            geometry = {name: value for name, value in geometry.items() if name != "groups"}

        def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            return nn.functional.conv2d(x, w, b, **geometry)

        def textbook(share: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> Sequence[Tensor]:
            ints = {name: value for name, value in geometry.items() if value != "valid"}
            return [rule(share, x, w, b, **ints)]

        return Case(aten.conv2d, run, [shape], [weight, weight[:1]][: 1 + number % 2], rule and textbook)

    return [case(number, *geometry) for number, geometry in enumerate(GEOMETRIES)]


def missing(table: Table, cases: Sequence[Case]) -> set[Any]:
    """Keys of a table that no case calls, and ops of cases that the table lacks."""
    return set(table) ^ {case.op for case in cases}
