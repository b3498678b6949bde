"""Every rule of Chefer's tables against the element-by-element ones of `reference.rules`, in float64."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.lrp_graph.reverse import Call
from onnxplain.lrp_graph.rules.chefer import chefer, divide, stem
from tests.helpers.rule_cases import SHAPE_OP_CASES, TARGETS, Case, assert_close, convolutions, missing, random
from tests.helpers.textbook import Textbook, all_of_it, both_get, check, check_twice, each_matrix
from tests.reference import rules

aten = torch.ops.aten
CHEFER = chefer()
ONE, TWO = [(4, 6)], [(4, 6), (4, 6)]


def reduction(rule: Callable[[Tensor, Tensor], Tensor], *dims: int) -> Textbook:
    """A sum or mean over these axes of a sample."""

    def textbook(r: Tensor, x: Tensor) -> Sequence[Tensor]:
        front = tuple(range(len(dims)))
        moved = x.movedim(dims, front)
        part = rule(moved.reshape(1, prod(moved.shape[: len(dims)]), -1), r.reshape(1, -1))
        return [part.reshape(moved.shape).movedim(front, dims)]

    return textbook


matrices = each_matrix(lambda r, a, b: rules.matmul(a, b, r))
residual, product = both_get(rules.add), both_get(rules.product)
mean, total = rules.mean_tokens, rules.sum_tokens


def linear_layers(alpha: float = 1, beta: float = 0) -> list[Case]:
    """Layers and products with a constant, by the rule with these constants."""

    def linear(r: Tensor, x: Tensor, w: Tensor, *_: Tensor) -> Sequence[Tensor]:
        rows = [t.reshape(-1, t.shape[-1]) for t in (x, r)]
        return [rules.linear(rows[0], w, rows[1], alpha, beta).reshape(x.shape)]

    def one_sign(w: Tensor, v: Tensor) -> Tensor:
        return torch.cat([w, -v.abs(), v.abs()])

    times_constant = each_matrix(lambda r, x, c: [rules.linear(x, c.mT, r, alpha, beta)])
    constant_times = each_matrix(lambda r, x, c: [rules.linear(x.mT, c, r.mT, alpha, beta).mT])
    return [
        Case(aten.linear, F.linear, ONE, [(5, 6)], linear),
        Case(aten.linear, F.linear, [(6,)], [(5, 6), (5,)], linear),
        Case(aten.linear, F.linear, [(2, 4, 6)], [(5, 6), (5,)], linear),
        Case(  # three outputs to which nothing contributes positively, and three to which nothing does negatively
            aten.linear,
            lambda x, w, v, b: F.linear(F.relu(x), one_sign(w, v), b),
            ONE,
            [(2, 6), (3, 6), (8,)],
            lambda r, x, w, v, b: linear(r, F.relu(x), one_sign(w, v)),
        ),
        Case(aten.matmul, torch.matmul, ONE, [(6, 5)], times_constant),
        Case(aten.matmul, torch.matmul, [(2, 4, 6)], [(6, 5)], times_constant),
        Case(aten.matmul, torch.matmul, [(1, 4, 6)], [(2, 6, 5)], times_constant),
        Case(aten.matmul, lambda x, c: c @ x, ONE, [(5, 4)], constant_times),
        Case(aten.matmul, lambda x, c: c @ x, ONE, [(4, 4)], constant_times),
        Case(aten.matmul, lambda x, c: c @ x, [(1, 4, 6)], [(2, 1, 4)], constant_times),  # a pool's queries
        Case(aten.bmm, lambda x, c: torch.bmm(x, c.expand(x.shape[0], -1, -1)), ONE, [(6, 5)], times_constant),
    ]


def convolution(r: Tensor, x: Tensor, w: Tensor, b: Tensor | None, **geometry: Any) -> Tensor:
    """Every output is a linear layer of the entries it is made of."""
    result = torch.zeros_like(x)
    for output, terms in rules.products(x, w, **geometry):
        row = torch.tensor([[float(x[place]) for place, _ in terms]], dtype=x.dtype)
        weight = torch.tensor([[weight for _, weight in terms]], dtype=x.dtype)
        for (place, _), share in zip(terms, rules.linear(row, weight, r[output].reshape(1, 1))[0], strict=True):
            result[place] += share
    return result


def pool(rule: Callable[[list[float], float], list[float]], **geometry: Any) -> Textbook:
    """``rule(entries, relevance)`` of each window of 3 x 3."""

    def textbook(r: Tensor, x: Tensor) -> Sequence[Tensor]:
        result = torch.zeros_like(x)
        for output, terms in rules.products(x, torch.ones(len(x), 1, 3, 3), groups=len(x), **geometry):
            shares = rule([float(x[place]) for place, _ in terms], float(r[output]))
            for (place, _), share in zip(terms, shares, strict=True):
                result[place] += share
        return [result]

    return textbook


def greatest(entries: list[float], r: float) -> list[float]:
    return [r * (place == entries.index(max(entries))) for place in range(len(entries))]


def average(entries: list[float], r: float) -> list[float]:
    each = rules.divide(r, sum(entries) / 9) / 9
    return [entry * each for entry in entries]


PASSED_ON = {
    aten.softmax: lambda x: x.softmax(-1),
    aten._softmax: lambda x: aten._softmax(x, -1, False),
    aten.layer_norm: lambda x: F.layer_norm(x, (6,), torch.ones(6).double(), torch.ones(6).double()),
    aten.rms_norm: lambda x: F.rms_norm(x, (6,)),
    aten.gelu: lambda x: F.gelu(x, approximate="tanh"),
    **{aten.silu: F.silu, aten.sigmoid: torch.sigmoid, aten.tanh: torch.tanh},
    **{aten.relu: F.relu, aten.exp: torch.exp, aten.neg: torch.neg, aten.hardswish: F.hardswish},
    **{aten.pow: lambda x: x**2, aten.sqrt: torch.sqrt, aten.rsqrt: torch.rsqrt, aten.softplus: F.softplus},
    aten.group_norm: lambda x: F.group_norm(x, 2),
    aten.batch_norm: lambda x: F.batch_norm(x, torch.ones(4).double(), torch.ones(4).double()),
}

RULES = (
    *(Case(op, run, textbook=all_of_it) for op, run in PASSED_ON.items()),
    *linear_layers(),
    *convolutions(convolution),
    Case(aten.max_pool2d, lambda x: F.max_pool2d(x, 3), [(2, 6, 7)], textbook=pool(greatest, stride=(3, 3))),
    Case(
        aten.max_pool2d,
        lambda x: F.max_pool2d(x, 3, 2, 1),
        [(2, 6, 7)],
        textbook=pool(greatest, stride=(2, 2), padding=(1, 1)),
    ),
    Case(
        aten.avg_pool2d,
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        [(2, 6, 7)],
        textbook=pool(average, stride=(2, 2), padding=(1, 1)),
    ),
    Case(aten.matmul, torch.matmul, [(2, 4, 6), (2, 6, 5)], textbook=matrices),
    Case(aten.matmul, torch.matmul, [(2, 4, 6), (1, 6, 5)], textbook=matrices),  # one key head for all
    Case(aten.matmul, torch.matmul, [(1, 4, 6), (2, 6, 5)], textbook=matrices),
    Case(aten.bmm, torch.bmm, [(4, 6), (6, 5)], textbook=matrices),
    Case(aten.add, torch.add, TWO, textbook=residual),
    Case(aten.add, torch.add, [(4, 6), (1, 6)], textbook=residual),
    Case(aten.add, torch.add, [(4, 1), (1, 6)], textbook=residual),
    Case(
        aten.add,
        lambda a, b: torch.add(a, b, alpha=-2.5),
        TWO,
        textbook=both_get(lambda a, b, r: rules.add(a, -2.5 * b, r)),
    ),
    Case(aten.add, lambda x: x + x, ONE, textbook=lambda r, x: [sum(residual(r, x, x))]),
    Case(aten.add, lambda x: x + 2, ONE, textbook=all_of_it),
    Case(aten.add, lambda x, c: torch.add(x, c, alpha=3), ONE, [(6,)], all_of_it),
    Case(aten.add, lambda x, c: torch.add(c, x, alpha=3), [(1, 6)], [(1, 4, 1)], all_of_it),
    Case(aten.sub, torch.sub, TWO, textbook=both_get(lambda a, b, r: rules.add(a, -b, r))),
    Case(
        aten.sub,
        lambda a, b: torch.sub(a, b, alpha=2),
        [(1, 6), (4, 6)],
        textbook=both_get(lambda a, b, r: rules.add(a, -2 * b, r)),
    ),
    Case(aten.sub, lambda x, c: x - c, ONE, [(6,)], all_of_it),
    Case(aten.sub, lambda x, c: c - x, [(1, 6)], [(1, 4, 1)], all_of_it),
    Case(aten.mul, torch.mul, TWO, textbook=product),
    Case(aten.mul, torch.mul, [(4, 1), (1, 6)], textbook=product),
    Case(aten.mul, lambda x: x * x, ONE, textbook=all_of_it),
    Case(aten.mul, lambda x: x * 0.125, ONE, textbook=all_of_it),
    Case(aten.mul, lambda x, c: c * x, [(1, 6)], [(1, 4, 1)], all_of_it),
    Case(aten.div, torch.div, TWO, textbook=product),
    Case(aten.div, lambda x: x / 8, ONE, textbook=all_of_it),
    Case(aten.div, lambda x, c: c / x, ONE, [(6,)], all_of_it),
    Case(aten.mean, lambda x: x.mean(1), ONE, textbook=reduction(mean, 0)),
    Case(aten.mean, lambda x: x.mean(-1, keepdim=True), ONE, textbook=reduction(mean, -1)),
    Case(aten.mean, lambda x: x.mean((1, 3)), [(4, 5, 6)], textbook=reduction(mean, 0, 2)),
    Case(aten.mean, lambda x: x.mean((-1, 2)), [(4, 5, 6)], textbook=reduction(mean, 1, 2)),
    Case(aten.sum, lambda x: x.sum(1), ONE, textbook=reduction(total, 0)),
    Case(aten.sum, lambda x: x.sum(-1, keepdim=True), ONE, textbook=reduction(total, -1)),
    Case(aten.sum, lambda x: x.sum((-2, 1)), [(4, 5, 6)], textbook=reduction(total, 0, 1)),
    # A value with several consumers collects all their relevance.
    Case(aten.sigmoid, lambda x: x * torch.sigmoid(1.702 * x), ONE, textbook=all_of_it),
)

CASES = (*SHAPE_OP_CASES, *RULES)


def embedded(r: Tensor, x: Tensor, c: Tensor) -> Sequence[Tensor]:
    """What of a sum the varying term gets, where the constant takes its share."""
    return residual(r, x, c)[:1]


def embedded_patches(r: Tensor, x: Tensor, w: Tensor, *_: Tensor) -> Sequence[Tensor]:
    return [rules.linear_z_b(x, w, r, float(x.min()), float(x.max()))]


STEM_RULES = (
    *convolutions(lambda r, x, w, b, **geometry: rules.first_convolution(x, w, r, **geometry), channels=3),
    *convolutions(convolution, channels=4),
    Case(aten.linear, F.linear, ONE, [(5, 6)], embedded_patches),
    Case(aten.linear, F.linear, ONE, [(5, 6), (5,)], embedded_patches),
    Case(aten.add, torch.add, ONE, [(4, 6)], embedded),
    Case(aten.add, lambda x, c: c + x, ONE, [(4, 6)], lambda r, x, c: residual(r, c, x)[1:]),
    Case(aten.add, lambda x, c: torch.add(x, c, alpha=-3), ONE, [(6,)], lambda r, x, c: embedded(r, x, -3 * c)),
    Case(aten.add, torch.add, [(1, 6)], [(4, 1)], embedded),  # an embedding of positions before there is one of each
    Case(aten.add, lambda x: x + 2, ONE, textbook=lambda r, x: embedded(r, x, torch.full_like(x, 2))),
    Case(aten.add, torch.add, [(4, 6), (1, 6)], textbook=residual),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check_twice(case, CHEFER)


@pytest.mark.parametrize(("alpha", "beta"), [(2, 1), (1.5, 0.5)])
@pytest.mark.parametrize("place", range(len(linear_layers())))
def test_rule_of_linear_layers(place: int, alpha: float, beta: float) -> None:
    case = linear_layers(alpha, beta)[place]
    check_twice(case, chefer(alpha, beta))
    with pytest.raises(AssertionError):
        check(case, CHEFER)


@pytest.mark.parametrize("case", STEM_RULES, ids=str)
def test_rule_of_the_stem(case: Case) -> None:
    check_twice(case, stem())


def test_every_rule_has_a_case() -> None:
    assert not missing(CHEFER, CASES)
    assert missing({**CHEFER, aten.sin: CHEFER[aten.exp]}, CASES) == {aten.sin}
    assert not missing(stem(), (*CASES, *STEM_RULES))


@pytest.mark.parametrize("op", [aten.add, aten.sub, aten.mul, aten.div, aten.matmul, aten.bmm], ids=str)
@pytest.mark.parametrize("varies", [(True, False), (False, True)])
def test_constants_get_nothing(op: Any, varies: tuple[bool, bool]) -> None:
    a, b, r = random(3, 4, 4), random(3, 4, 4, seed=1), random(TARGETS, 3, 4, 4, seed=2)
    found = CHEFER[op](r, Call(op(a, b), (a, b), {}, varies))
    assert [part is not None for part in found] == list(varies)


def test_residuals_are_normalised_per_target_and_sample() -> None:
    """Each sample's two parts together keep its relevance, whatever its neighbours' or the other targets' are."""
    a, b, r = random(3, 4, 6), random(3, 4, 6, seed=1), random(TARGETS, 3, 4, 6, seed=2)
    r[0, 1] *= 1e6
    rule = CHEFER[aten.add]
    found = rule(r, Call(a + b, (a, b), {}, (True, True)))
    assert_close(sum(found).sum((2, 3)), r.sum((2, 3)), 1e-6)
    for i in range(3):
        alone = rule(r[1:, i : i + 1], Call((a + b)[i : i + 1], (a[i : i + 1], b[i : i + 1]), {}, (True, True)))
        for part, whole in zip(alone, found, strict=True):
            assert torch.equal(part, whole[1:, i : i + 1])


def test_division() -> None:
    z = [0.0, 1.0, -2.0, 1e-9, 1e-300, -1e-12]
    r = random(TARGETS, len(z))
    expected = [[rules.divide(n, d) for n, d in zip(row, z, strict=True)] for row in r.tolist()]
    assert_close(divide(r, torch.tensor(z, dtype=torch.float64)), torch.tensor(expected, dtype=torch.float64))
    assert divide(r, torch.zeros(len(z))).eq(0).all()


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 1)])
def test_linear_tells_rounding_noise_from_a_small_denominator(alpha: float, beta: float) -> None:
    """In float32 the contributions to four outputs, all of one sign, cancel to 1e-7 and not to 0."""
    x, w, r = random(8, 64).relu(), random(12, 64, seed=1), random(8, 12, seed=2)
    w[:4], w[4:8] = -w[:4].abs(), w[4:8].abs()
    expected = rules.linear(x, w, r, alpha, beta)
    x, w, r = x.float(), w.float(), r.float()
    (found,) = chefer(alpha, beta)[aten.linear](r[None], Call(F.linear(x, w), (x, w), {}, (True, False)))
    assert_close(found[0].double(), expected, 1e-5)
