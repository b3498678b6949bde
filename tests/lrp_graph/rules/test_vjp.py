"""Every rule of the gradient table against torch.autograd, in float64, several targets and samples at once."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from onnxplain.lrp_graph.reverse import Table
from onnxplain.lrp_graph.rules.vjp import GRADIENT
from tests.helpers.rule_cases import (
    SHAPE_OP_CASES,
    TARGETS,
    Case,
    assert_close,
    convolutions,
    inputs,
    missing,
    random,
    shares,
    slightly_wrong,
)

aten = torch.ops.aten

POOLS: tuple[dict[str, Any], ...] = (
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (2, 3), "stride": (1, 2)},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": 1, "padding": (0, 1), "dilation": (3, 1)},
)

CASES = (
    *SHAPE_OP_CASES,
    Case(aten.linear, F.linear, constants=[(5, 6)]),
    Case(aten.linear, F.linear, [(6,)], [(5, 6), (5,)]),
    Case(aten.linear, F.linear, [(2, 4, 6)], [(5, 6), (5,)]),
    *convolutions(),
    Case(aten.matmul, torch.matmul, [(2, 4, 6), (2, 6, 5)]),
    Case(aten.matmul, torch.matmul, [(2, 4, 6), (1, 6, 5)]),  # one key head for all
    Case(aten.matmul, torch.matmul, [(1, 4, 6), (2, 6, 5)]),
    Case(aten.matmul, torch.matmul, constants=[(6, 5)]),
    Case(aten.matmul, torch.matmul, [(2, 4, 6)], [(2, 6, 5)]),
    Case(aten.matmul, lambda x, c: c @ x, constants=[(5, 4)]),
    Case(aten.matmul, lambda x, c: c.expand(x.shape[0], -1, -1, -1) @ x, [(2, 4, 6)], [(2, 1, 4)]),  # a pool's query
    Case(aten.matmul, lambda x: x @ x.transpose(-2, -1)),
    Case(aten.bmm, torch.bmm, [(4, 6), (6, 5)]),
    Case(aten.bmm, lambda x, c: torch.bmm(x, c.expand(x.shape[0], -1, -1)), constants=[(6, 5)]),
    Case(aten.add, torch.add, [(4, 6), (4, 6)]),
    Case(aten.add, torch.add, [(4, 6), (1, 6)]),
    Case(aten.add, torch.add, [(1, 6), (4, 1)]),
    Case(aten.add, lambda a, b: torch.add(a, b, alpha=2.5), [(4, 6), (4, 6)]),
    Case(aten.add, lambda x, c: torch.add(x, c, alpha=2.5), constants=[(6,)]),
    Case(aten.add, lambda x, c: torch.add(c, x, alpha=2.5), constants=[(6,)]),
    Case(aten.add, lambda x, c: x + c, [(1, 6)], [(1, 4, 1)]),
    Case(aten.add, lambda x: x + 2),
    Case(aten.add, lambda x: x + x),
    Case(aten.sub, torch.sub, [(4, 6), (4, 1)]),
    Case(aten.sub, lambda a, b: torch.sub(a, b, alpha=2.5), [(4, 6), (4, 6)]),
    Case(aten.sub, lambda x, c: x - c, constants=[(6,)]),
    Case(aten.sub, lambda x, c: c - x, [(1, 6)], [(1, 4, 1)]),
    Case(aten.sub, lambda x: x - 0.5),
    Case(aten.mul, torch.mul, [(4, 6), (4, 6)]),
    Case(aten.mul, torch.mul, [(4, 1), (1, 6)]),
    Case(aten.mul, lambda x, c: x * c, constants=[(6,)]),
    Case(aten.mul, lambda x, c: c * x, [(1, 6)], [(1, 4, 1)]),
    Case(aten.mul, lambda x: x * 0.125),
    Case(aten.mul, lambda x: x * x),
    Case(aten.div, torch.div, [(4, 6), (4, 6)]),
    Case(aten.div, torch.div, [(4, 1), (1, 6)]),
    Case(aten.div, lambda x, c: x / c, [(1, 6)], [(1, 4, 1)]),
    Case(aten.div, lambda x, c: c / x, constants=[(6,)]),
    Case(aten.div, lambda x: x / 8),
    Case(aten.mean, lambda x: x.mean(1)),
    Case(aten.mean, lambda x: x.mean(-1, keepdim=True)),
    Case(aten.mean, lambda x: x.mean((-1, 1)), [(4, 5, 6)]),
    Case(aten.mean, lambda x: x.mean((2, -2), keepdim=True)),
    Case(aten.sum, lambda x: x.sum(1)),
    Case(aten.sum, lambda x: x.sum(-1, keepdim=True)),
    Case(aten.sum, lambda x: x.sum((3, 1)), [(4, 5, 6)]),
    Case(aten.sum, lambda x: x.sum(-2, dtype=torch.float64)),
    Case(aten.softmax, lambda x: x.softmax(-1)),
    Case(aten.softmax, lambda x: x.softmax(1)),
    Case(aten.softmax, lambda x: x.float().softmax(-1, dtype=torch.float64)),
    Case(aten._softmax, lambda x: aten._softmax(x, 1, False)),
    Case(aten.layer_norm, lambda x: F.layer_norm(x, (6,))),
    Case(aten.layer_norm, lambda x, w: F.layer_norm(x, (6,), w, eps=0.1), constants=[(6,)]),
    Case(aten.layer_norm, lambda x, b: F.layer_norm(x, (6,), None, b), constants=[(6,)]),
    Case(aten.layer_norm, lambda x, w, b: F.layer_norm(x, (6,), w, b, 0.1), [(2, 4, 6)], [(6,), (6,)]),
    Case(aten.layer_norm, lambda x, w, b: F.layer_norm(x, (4, 6), w, b), constants=[(4, 6), (4, 6)]),
    Case(aten.rms_norm, lambda x: F.rms_norm(x, (6,))),
    Case(aten.rms_norm, lambda x: F.rms_norm(1e-8 * x, (6,))),  # where the default epsilon matters
    Case(aten.rms_norm, lambda x, w: F.rms_norm(x, (6,), w, 0.1), constants=[(6,)]),
    Case(aten.rms_norm, lambda x, w: F.rms_norm(x, (4, 6), w, 0.1), constants=[(4, 6)]),
    Case(aten.gelu, F.gelu),
    Case(aten.gelu, lambda x: F.gelu(x, approximate="tanh")),
    Case(aten.gelu, lambda x: F.gelu(20 * x)),
    Case(aten.gelu, lambda x: F.gelu(20 * x, approximate="tanh")),
    Case(aten.silu, F.silu),
    Case(aten.silu, lambda x: F.silu(20 * x)),
    Case(aten.sigmoid, torch.sigmoid),
    Case(aten.tanh, torch.tanh),
    Case(aten.relu, F.relu),
    Case(aten.relu, lambda x: F.relu(F.relu(x))),  # at 0 the slope is 0
    Case(aten.exp, torch.exp),
    Case(aten.neg, lambda x: -x),
    Case(aten.pow, lambda x: x**3),
    Case(aten.sqrt, lambda x: x.exp().sqrt()),
    Case(aten.rsqrt, lambda x: x.exp().rsqrt()),
    Case(aten.hardswish, lambda x: F.hardswish(4 * x)),
    Case(aten.softplus, lambda x: F.softplus(20 * x, beta=2)),
    Case(aten.group_norm, lambda x: F.group_norm(x, 2, eps=0.1)),
    Case(aten.group_norm, lambda x, w, b: F.group_norm(x, 2, w, b), [(4, 3, 2)], [(4,), (4,)]),
    Case(aten.batch_norm, lambda x, m, v: F.batch_norm(x, m, v.exp()), [(4, 3, 2)], [(4,), (4,)]),
    Case(aten.batch_norm, lambda x, m, w, b: F.batch_norm(x, m, m.exp(), w, b), [(4, 3, 2)], [(4,), (4,), (4,)]),
    Case(aten.conv2d, lambda x, w: F.conv2d(x, w, padding="same"), [(2, 6, 5)], [(3, 2, 3, 2)]),
    Case(aten.conv2d, lambda x, w: F.conv2d(x, w, padding="same", dilation=(2, 3)), [(2, 6, 9)], [(3, 2, 2, 2)]),
    *(Case(aten.max_pool2d, lambda x, p=p: F.max_pool2d(x, **p), [(2, 7, 8)]) for p in POOLS),
    *(Case(aten.avg_pool2d, lambda x, p=p: F.avg_pool2d(x, **p), [(2, 7, 8)]) for p in POOLS if "dilation" not in p),
    Case(aten.avg_pool2d, lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), [(2, 7, 8)]),
    Case(aten.avg_pool2d, lambda x: F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False), [(2, 7, 7)]),
    Case(aten.avg_pool2d, lambda x: F.avg_pool2d(x, 2, divisor_override=3), [(2, 7, 7)]),
    # A value with several consumers collects all their shares.
    Case(aten.sigmoid, lambda x: x * torch.sigmoid(1.702 * x) + x.mean(1, keepdim=True) - x.softmax(-1)),
)


def check(case: Case, table: Table = GRADIENT) -> None:
    varying, constants = inputs(case)
    leaves = [x.requires_grad_() for x in varying]
    y = case.run(*leaves, *constants)
    seed = random(TARGETS, *y.shape, seed=99).to(y.dtype)
    expected = [torch.autograd.grad(y, leaves, g, retain_graph=True) for g in seed]
    actual = shares(case, table, [x.detach() for x in varying], constants, seed)
    for found, wanted in zip(actual, map(torch.stack, zip(*expected, strict=True)), strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
    with pytest.raises(AssertionError):
        check(case, slightly_wrong(GRADIENT, case.op))


def test_every_rule_has_a_case() -> None:
    assert not missing(GRADIENT, CASES)
    assert missing({**GRADIENT, aten.sin: GRADIENT[aten.exp]}, CASES) == {aten.sin}


@pytest.mark.parametrize(("op", "like"), [(aten.tanh, aten.sigmoid), (aten.transpose, aten.reshape)], ids=str)
def test_the_check_catches_another_ops_rule(op: Any, like: Any) -> None:
    for case in CASES:
        if case.op is op:
            with pytest.raises((AssertionError, TypeError)):
                check(case, {**GRADIENT, op: GRADIENT[like]})


def test_other_padding_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="reflect padding has no rule"):
        check(Case(aten.pad, lambda x: F.pad(x, [1, 1], mode="reflect")))
