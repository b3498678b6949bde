"""Every rule of AttnLRP's table that is no vector-Jacobian product against the formulas of `reference.attnlrp_rules`.

And of all rules, that no relevance is lost: that of the inputs sums to that of the output.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.lrp_graph.reverse import Table
from onnxplain.lrp_graph.rules.attnlrp import attnlrp
from onnxplain.lrp_graph.rules.vjp import GRADIENT
from tests.helpers.rule_cases import (
    SHAPE_OP_CASES,
    TARGETS,
    Case,
    convolutions,
    inputs,
    missing,
    random,
    shares,
    slightly_wrong,
)
from tests.helpers.textbook import Textbook, both_get, check, check_twice, each_matrix
from tests.reference import attnlrp_rules as rules

aten = torch.ops.aten
GAMMA = 0.25
ATTNLRP, FAVOURING = attnlrp(), attnlrp(GAMMA, GAMMA)
ONE, TWO = [(4, 6)], [(4, 6), (4, 6)]


def elementwise(name: str) -> Textbook:
    return lambda g, x: [rules.elementwise(name, g, x)]


def each_row(rule: Callable[[Tensor, Tensor, Tensor, float], Tensor], eps: float, axes: int = 1) -> Textbook:
    """A normalisation of the last ``axes`` axes."""

    def textbook(g: Tensor, x: Tensor, w: Tensor | None = None, *_: Tensor) -> Sequence[Tensor]:
        weight = torch.ones_like(x[(0,) * (x.dim() - axes)]) if w is None else w
        rows = [t.reshape(-1, weight.numel()) for t in (x, g)]
        return [torch.stack([rule(a, weight.flatten(), b, eps) for a, b in zip(*rows, strict=True)]).reshape(x.shape)]

    return textbook


matrices = each_matrix(lambda g, a, b: rules.matmul(a, b, g))
times_constant = each_matrix(lambda g, a, b: rules.matmul(a, b, g, part=1)[:1])
constant_times = each_matrix(lambda g, b, a: rules.matmul(a, b, g, part=1)[1:])
product = both_get(lambda a, b, g: (g * b / 2, g * a / 2))
layer_norm, rms_norm = each_row(rules.layer_norm, 0.1), each_row(rules.rms_norm, 0.1)


def group_norm(g: Tensor, x: Tensor, w: Tensor | None = None, *_: Tensor) -> Sequence[Tensor]:
    """Two groups of channels, each normalised as one."""
    weight = torch.ones_like(x) if w is None else w.reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)
    parts = zip(*(t.reshape(2, -1) for t in (x, weight, g)), strict=True)
    return [torch.stack([rules.layer_norm(*part, 0.1) for part in parts]).reshape(x.shape)]


RULES = (
    Case(aten.gelu, F.gelu, textbook=elementwise("gelu")),
    Case(aten.gelu, lambda x: F.gelu(x, approximate="tanh"), textbook=elementwise("gelu_tanh")),
    Case(aten.silu, F.silu, textbook=elementwise("silu")),
    Case(aten.sigmoid, torch.sigmoid, textbook=elementwise("sigmoid")),
    Case(aten.tanh, torch.tanh, textbook=elementwise("tanh")),
    Case(aten.relu, F.relu, textbook=elementwise("relu")),
    Case(aten.exp, torch.exp, textbook=elementwise("exp")),
    Case(aten.pow, lambda x: x**2, textbook=lambda g, x: [g * x]),
    Case(aten.hardswish, F.hardswish, textbook=lambda g, x: [g * (x + 3).clamp(0, 6) / 6]),
    Case(aten.softplus, F.softplus, textbook=lambda g, x: [g * torch.where(x == 0, 0.5, F.softplus(x) / x)]),
    Case(aten.sqrt, lambda x: x.exp().sqrt(), textbook=lambda g, x: [g * torch.where(x == 0, 1, (x / 2).exp() / x)]),
    Case(aten.rsqrt, lambda x: x.exp().rsqrt(), textbook=lambda g, x: [g * torch.where(x == 0, 1, (-x / 2).exp() / x)]),
    Case(aten.group_norm, lambda x: F.group_norm(x, 2, eps=0.1), textbook=group_norm),
    Case(aten.group_norm, lambda x, w, b: F.group_norm(x, 2, w, b, 0.1), [(4, 3, 2)], [(4,), (4,)], group_norm),
    Case(aten.matmul, torch.matmul, [(2, 4, 6), (2, 6, 5)], textbook=matrices),
    Case(aten.matmul, torch.matmul, [(2, 4, 6), (1, 6, 5)], textbook=matrices),
    Case(aten.matmul, torch.matmul, ONE, [(6, 5)], times_constant),
    Case(aten.matmul, lambda x, c: c @ x, ONE, [(5, 4)], constant_times),
    Case(aten.bmm, torch.bmm, [(4, 6), (6, 5)], textbook=matrices),
    Case(aten.bmm, lambda x, c: torch.bmm(x, c.expand(x.shape[0], -1, -1)), ONE, [(6, 5)], times_constant),
    Case(aten.mul, torch.mul, TWO, textbook=product),
    Case(aten.mul, torch.mul, [(4, 1), (1, 6)], textbook=product),
    Case(aten.mul, lambda x: x * x, ONE, textbook=lambda g, x: [g * x]),
    Case(aten.mul, lambda x: x * 0.125, ONE, textbook=lambda g, x: [g / 8]),
    Case(aten.mul, lambda x, c: x * c, ONE, [(6,)], lambda g, x, c: [g * c]),
    Case(aten.mul, lambda x, c: c * x, [(1, 6)], [(4, 1)], lambda g, x, c: [(g * c).sum(0, keepdim=True)]),
    Case(aten.div, lambda a, b: a / b.exp(), TWO, textbook=lambda g, a, b: [g / b.exp(), 0 * g]),
    Case(aten.div, lambda a, b: (a + b) / (a * a + 1), TWO, textbook=lambda g, a, b: [g / (a * a + 1)] * 2),
    Case(aten.div, lambda x: x / 8, ONE, textbook=lambda g, x: [g / 8]),
    Case(aten.div, lambda x, c: x / c, [(1, 6)], [(4, 1)], lambda g, x, c: [(g / c).sum(0, keepdim=True)]),
    Case(aten.layer_norm, lambda x: F.layer_norm(x, (6,), eps=0.1), textbook=layer_norm),
    Case(aten.layer_norm, lambda x, w, b: F.layer_norm(x, (6,), w, b, 0.1), ONE, [(6,), (6,)], layer_norm),
    Case(
        aten.layer_norm,
        lambda x, w, b: F.layer_norm(x, (4, 6), w, b),
        [(2, 4, 6)],
        [(4, 6), (4, 6)],
        each_row(rules.layer_norm, 1e-5, axes=2),
    ),
    Case(aten.rms_norm, lambda x: F.rms_norm(x, (6,), eps=0.1), textbook=rms_norm),
    Case(aten.rms_norm, lambda x, w: F.rms_norm(x, (6,), w, 0.1), ONE, [(6,)], rms_norm),
    Case(  # where the default epsilon matters
        aten.rms_norm,
        lambda x: F.rms_norm(1e-8 * x, (6,)),
        textbook=lambda g, x: [1e-8 * each_row(rules.rms_norm, torch.finfo(x.dtype).eps)(g, 1e-8 * x)[0]],
    ),
    Case(  # half of the relevance directly, half through the sigmoid, whose share of a product with 0 is 0
        aten.sigmoid,
        lambda x: x * torch.sigmoid(x),
        textbook=lambda g, x: [g * torch.sigmoid(x) * torch.where(x == 0, 0.5, 1.0)],
    ),
)


def linear(g: Tensor, x: Tensor, w: Tensor, b: Tensor | None = None) -> Sequence[Tensor]:
    rows = [t.reshape(-1, t.shape[-1]) for t in (x, g)]
    return [rules.linear(rows[0], w, b, rows[1], GAMMA).reshape(x.shape)]


GAMMA_RULES = (
    Case(aten.linear, F.linear, ONE, [(5, 6)], linear),
    Case(aten.linear, F.linear, [(6,)], [(5, 6), (5,)], linear),
    Case(aten.linear, F.linear, [(2, 4, 6)], [(5, 6), (5,)], linear),
    Case(  # outputs of one sign whose contributions all have the other, or the same
        aten.linear,
        lambda x, w, b: F.linear(F.relu(x), torch.cat([w.abs(), -w.abs()]), b),
        [(6,)],
        [(3, 6), (6,)],
        lambda g, x, w, b: [linear(g, F.relu(x), torch.cat([w.abs(), -w.abs()]), b)[0] * (x > 0)],
    ),
    *convolutions(lambda g, x, w, b, **geometry: rules.convolution(x, w, b, g, GAMMA, **geometry)),
)


@pytest.mark.parametrize("case", RULES, ids=str)
def test_rule(case: Case) -> None:
    check_twice(case, ATTNLRP)


@pytest.mark.parametrize("case", GAMMA_RULES, ids=str)
def test_gamma_rule(case: Case) -> None:
    check_twice(case, FAVOURING)
    with pytest.raises(AssertionError):
        check(case, ATTNLRP)
    varying, constants = inputs(case)
    assert set(case.run(*varying, *constants).sign().unique().tolist()) == {-1, 1}


def test_every_rule_that_differs_has_a_case() -> None:
    changed = {op: rule for op, rule in ATTNLRP.items() if rule is not GRADIENT[op]}
    assert not missing(changed, RULES)
    changed = {op: rule for op, rule in FAVOURING.items() if rule is not GRADIENT[op]}
    assert not missing(changed, (*RULES, *GAMMA_RULES))
    assert set(ATTNLRP) == set(FAVOURING) == set(GRADIENT)


def test_a_denominator_gets_nothing() -> None:
    case = Case(aten.div, lambda x, c: c / x, ONE, [(6,)])
    varying, constants = inputs(case)
    (found,) = shares(case, ATTNLRP, varying, constants, random(TARGETS, 3, 4, 6))
    assert found.eq(0).all()


CONSERVING = (
    *(case for case in SHAPE_OP_CASES if case.op is not aten.cat and case.op is not aten.stack),
    *(case for case in SHAPE_OP_CASES if case.op in (aten.cat, aten.stack) and not case.constants),
    *(case for case in (*RULES, *GAMMA_RULES) if len(case.constants) < 2),  # the second one is a bias
    Case(aten.add, lambda a, b: torch.add(a, b, alpha=2.5), [(4, 6), (1, 6)]),
    Case(aten.add, lambda x: x + x),
    Case(aten.sub, torch.sub, [(4, 6), (4, 1)]),
    Case(aten.mean, lambda x: x.mean(1)),
    Case(aten.sum, lambda x: x.sum((2, 1), keepdim=True)),
    Case(aten.neg, lambda x: -x),
    Case(aten.batch_norm, lambda x, c: F.batch_norm(x, c * 0, c.exp()), constants=[(4,)]),
    Case(aten.max_pool2d, lambda x: F.max_pool2d(x, 3, 2, 1), [(2, 6, 7)]),
    Case(aten.avg_pool2d, lambda x: F.avg_pool2d(x, 3, 2, 1), [(2, 6, 7)]),
)
SOFTMAX = (
    Case(aten.softmax, lambda x: x.softmax(-1)),
    Case(aten._softmax, lambda x: aten._softmax(x, -1, False)),
)


def check_conservation(case: Case, table: Table) -> None:
    """sum(x g_x) over the inputs is sum(y g_y), for each target."""
    varying, constants = inputs(case)
    varying = [x.float().double() for x in varying]  # what casts do not round
    y = case.run(*varying, *constants)
    seed = random(TARGETS, *y.shape, seed=99).float().to(y.dtype)
    found = shares(case, table, varying, constants, seed)
    for target, g in enumerate(seed):
        given = sum(float((x * share[target]).sum()) for x, share in zip(varying, found, strict=True))
        expected = y.double() * g.double()
        assert abs(given - float(expected.sum())) <= 1e-9 * float(expected.abs().sum())


@pytest.mark.parametrize("case", CONSERVING, ids=str)
def test_relevance_is_conserved(case: Case) -> None:
    for table in (ATTNLRP, FAVOURING):
        check_conservation(case, table)
        with pytest.raises(AssertionError):
            check_conservation(case, slightly_wrong(table, case.op))


def test_relevance_is_conserved_by_all_rules_but_softmax() -> None:
    assert not missing(ATTNLRP, (*CONSERVING, *SOFTMAX))
    for case in SOFTMAX:
        with pytest.raises(AssertionError):
            check_conservation(case, ATTNLRP)
