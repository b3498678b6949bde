"""What models write in several ways: the same numbers as in the one spelling that has rules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.lrp_graph import GraphError, MissingRuleError, fuse
from onnxplain.lrp_graph.trace.canonicalize import REWRITES
from onnxplain.lrp_graph.trace.rewrite import target_of
from tests.helpers.graph_checks import TARGET, Hand, assert_same, check_gradient, images, sdpa

aten = torch.ops.aten
Pool = Callable[[Tensor], Tensor]
TABLE = torch.linspace(-1, 1, 16, dtype=torch.float64)


def picture(x: Tensor) -> Tensor:
    """[batch, 16 tokens, 16] -> [batch, 16, 4, 4]."""
    return x.transpose(1, 2).reshape(-1, 16, 4, 4)


def rectified(x: Tensor) -> Tensor:
    x = x * 1
    x.relu_()
    return x


def replaced(x: Tensor) -> Tensor:
    x = x * 1
    x[:, 2:5] = x[:, 7:10] * 2
    x[:, 1] += TABLE
    return x


def one_of_three(x: Tensor) -> Tensor:
    parts = (x * 1).unflatten(1, (4, 4))
    a, b, c = parts[:, 0], parts[:, 1], parts[:, 2]
    a *= 2
    return (a * b + c).mean(1)


POOLS: dict[str, tuple[Any, Pool, Pool]] = {
    "a number minus x": (aten.rsub, lambda x: (1 - x).mean(1), lambda x: (-x + 1).mean(1)),
    "a number minus 2 x": (aten.rsub, lambda x: torch.rsub(x, 1, alpha=2).mean(1), lambda x: (x * -2 + 1).mean(1)),
    "a tensor minus x": (aten.rsub, lambda x: torch.rsub(x, TABLE, alpha=2).mean(1), lambda x: (TABLE - 2 * x).mean(1)),
    "narrow": (aten.narrow, lambda x: x.narrow(1, 2, 5).mean(1), lambda x: x[:, 2:7].mean(1)),
    "narrow from the end": (aten.narrow, lambda x: x.narrow(1, -4, 3).mean(1), lambda x: x[:, 12:15].mean(1)),
    "square": (aten.square, lambda x: x.square().mean(1), lambda x: (x * x).mean(1)),
    "swapaxes": (aten.swapaxes, lambda x: x.swapaxes(1, 2).mean(2), lambda x: x.mean(1)),
    "swapdims": (aten.swapdims, lambda x: x.swapdims(-1, 1).mean(2), lambda x: x.mean(1)),
    "mT": (aten.mT, lambda x: x.mT.mean(2), lambda x: x.mean(1)),
    "adjoint": (aten.adjoint, lambda x: x.adjoint().mean(2), lambda x: x.mean(1)),
    "one window": (
        aten.adaptive_avg_pool2d,
        lambda x: F.adaptive_avg_pool2d(picture(x), 1).flatten(1),
        lambda x: F.avg_pool2d(picture(x), 4).flatten(1),
    ),
    "windows": (
        aten.adaptive_avg_pool2d,
        lambda x: F.adaptive_avg_pool2d(picture(x), (2, 1))[:, :, 1, 0],
        lambda x: F.avg_pool2d(picture(x), (2, 4))[:, :, 1, 0],
    ),
    "in place": (aten.relu_, lambda x: rectified(x).mean(1), lambda x: x.relu().mean(1)),
    "one of three in place": (
        aten.mul_,
        one_of_three,
        lambda x: (2 * x[:, :4] * x[:, 4:8] + x[:, 8:12]).mean(1),
    ),
    "parts in place": (
        aten.copy_,
        lambda x: replaced(x)[:, 1:6].mean(1),
        lambda x: torch.cat([x[:, 1:2] + TABLE, x[:, 7:10] * 2, x[:, 5:6]], 1).mean(1),
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxplain.lrp_graph.rules.chefer.EPSILON", 1e-14)
    op, run, plain = POOLS[name]
    model = Hand(sdpa, run)
    assert op in {target_of(node) for node in torch.export.export(model, (images(),), strict=False).graph.nodes}
    graph = fuse(model, images()[:1])
    assert {target_of(node) for node in graph._trace.nodes}.isdisjoint({op, *REWRITES})
    check_gradient(model, graph, images())
    assert_same(graph(images(), TARGET), fuse(Hand(sdpa, plain), images()[:1])(images(), TARGET), 1e-8)


def test_fewer_heads_of_keys_than_of_queries() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)

    def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa(q, k[:, :1].expand(-1, 2, -1, -1), v[:, :1].expand(-1, 2, -1, -1))

    graph = fuse(Hand(attend), images()[:1])
    check_gradient(Hand(written_out), graph, images())
    assert_same(graph(images(), TARGET), fuse(Hand(written_out), images()[:1])(images(), TARGET))


def test_every_spelling_has_a_case() -> None:
    assert REWRITES.keys() - {op for op, *_ in POOLS.values()} == {aten.scaled_dot_product_attention}


def test_windows_of_several_sizes_have_no_rule() -> None:
    with pytest.raises(MissingRuleError, match="adaptive_avg_pool2d"):
        fuse(Hand(sdpa, lambda x: F.adaptive_avg_pool2d(picture(x), 3).mean((2, 3))), images()[:1], ["gradient"])


@torch.library.custom_op("onnxplain_test::stir", mutates_args=("x",))
def stir(x: Tensor) -> None:
    x.mul_(2)


def stirred(x: Tensor) -> Tensor:
    x = x * 1
    stir(x)
    return x.mean(1)


def read_by_another_view(x: Tensor) -> Tensor:
    x = x * 1
    x.flatten(1).relu_()
    return x.mean(1)


def every_other(x: Tensor) -> Tensor:
    x = x * 1
    x[:, ::2] = 0.5 * x[:, 1::2]
    return x.mean(1)


REFUSED = {
    "without a plain op": (stirred, "stir changes its argument in place"),
    "another view": (read_by_another_view, "changes a value in place of which another view is read"),
    "every other": (every_other, "every other entry is changed in place"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_changes_in_place(name: str) -> None:
    pool, message = REFUSED[name]
    with pytest.raises(GraphError, match=message):
        fuse(Hand(sdpa, pool), images()[:1])
