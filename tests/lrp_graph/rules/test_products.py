"""Products in int8 against loops over their definition, and the tables that use them against the exact ones."""

import math

import pytest
import torch
from torch import Tensor

from onnxplain.lrp_graph.reverse import Call, Table
from onnxplain.lrp_graph.rules.attnlrp import attnlrp
from onnxplain.lrp_graph.rules.chefer import chefer, stem
from onnxplain.lrp_graph.rules.products import (
    FLOAT,
    INT8,
    LARGEST_SIGNED,
    LARGEST_UNSIGNED,
    LARGEST_WEIGHT,
    ZERO,
    Products,
)
from onnxplain.lrp_graph.rules.vjp import GRADIENT, gradient

aten = torch.ops.aten
OUT, IN = 5, 7


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def _half_even(number: float) -> int:
    return round(number)  # as Python rounds


def _weight_codes(w: Tensor) -> tuple[list[list[int]], list[float]]:
    """By row of the weight: its codes and their factor; the quotients are those of float32."""
    scales = [max(row.abs().max().item(), 64e-30) for row in w]
    scales = [torch.tensor(scale).div(64).item() for scale in scales]
    return [
        [_half_even((number / torch.tensor(scale)).item()) for number in row]
        for row, scale in zip(w, scales, strict=True)
    ], scales


def _slow_row(values: list[float], matrix: list[list[int]], largest: int) -> list[float]:
    """One row of values in codes from -largest to largest, times a matrix of integers, summed one by one."""
    step = max(abs(value) for value in values) / largest
    codes = [_half_even(value / step) if step else 0 for value in values]
    assert all(abs(code) <= largest for code in codes)
    columns = range(len(matrix[0]))
    return [step * sum(code * row[column] for code, row in zip(codes, matrix, strict=True)) for column in columns]


def _slow_back(s: Tensor, w: Tensor, magnitude: bool) -> Tensor:
    codes, scales = _weight_codes(w)
    matrix = [[abs(code) for code in row] for row in codes] if magnitude else codes
    rows = [[value * scale for value, scale in zip(row.tolist(), scales, strict=True)] for row in s.flatten(0, -2)]
    return torch.tensor([_slow_row(row, matrix, 127) for row in rows]).reshape(*s.shape[:-1], w.shape[1])


def _slow_forward(x: Tensor, w: Tensor) -> Tensor:
    codes, scales = _weight_codes(w)
    matrix = [[abs(codes[o][i]) for o in range(len(codes))] for i in range(w.shape[1])]
    rows = [_slow_row(row.tolist(), matrix, 255) for row in x.flatten(0, -2)]
    return torch.tensor([[y * scale for y, scale in zip(row, scales, strict=True)] for row in rows]).reshape(
        *x.shape[:-1], len(w)
    )


@pytest.mark.parametrize("magnitude", [False, True])
def test_way_back(magnitude: bool) -> None:
    s, w = _random(2, 3, 4, OUT), _random(OUT, IN, seed=1)
    weight = INT8.weight(w)
    found = INT8.back(s.double(), weight.abs() if magnitude else weight, None)
    torch.testing.assert_close(found, _slow_back(s, w, magnitude).double(), rtol=1e-5, atol=1e-6)
    error = (found - FLOAT.back(s, w.abs() if magnitude else w, None)).abs().max()
    assert 1e-4 < error < 0.1, "it is rounded, and not much"


@pytest.mark.parametrize("products", [FLOAT, INT8], ids=["float", "int8"])
def test_a_divisor_is_that_of_the_rows_before_they_are_rounded(products: Products) -> None:
    s, w, divisor = _random(3, 2, 4, OUT), _random(OUT, IN, seed=1), _random(2, 4, OUT, seed=2).abs() + 0.1
    weight = products.weight(w)
    found = products.back(s, weight, divisor)
    torch.testing.assert_close(found, products.back(s / divisor, weight, None), rtol=1e-5, atol=1e-5)


def test_way_forward_takes_all_bits_of_what_is_not_negative() -> None:
    x, w = _random(2, 4, IN).abs(), _random(OUT, IN, seed=1)
    found = INT8.forward(x.double(), INT8.weight(w).abs())
    torch.testing.assert_close(found, _slow_forward(x, w).double(), rtol=1e-5, atol=1e-6)
    assert 1e-4 < (found - FLOAT.forward(x, w.abs())).abs().max() < 0.1


def test_no_entry_is_off_by_more_than_the_two_roundings_allow() -> None:
    s, w = _random(50, OUT), _random(OUT, IN, seed=1)
    w[2, 3] = 40.0  # an outlier makes its row coarse, and no other
    scale = w.abs().amax(1, keepdim=True) / 64
    scaled = s * scale.flatten()
    step = scaled.abs().amax(1, keepdim=True) / 127
    of_weights = s.abs() @ (scale / 2).expand_as(w)
    of_rows = step / 2 * (w / scale).round().abs().sum(0)
    error = (INT8.back(s, INT8.weight(w), None) - s @ w).abs()
    assert (error <= of_weights + of_rows + 1e-4).all()


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-20, 1e30])
def test_rows_of_any_size(value: float) -> None:
    s, w = torch.full((2, OUT), value), _random(OUT, IN)
    s[1] = _random(OUT, seed=2)
    found = INT8.back(s, INT8.weight(w), None)
    assert found.isfinite().all()
    alone = INT8.back(s[1:], INT8.weight(w), None)
    torch.testing.assert_close(found[1:], alone, rtol=0, atol=0)
    if value > 1e-27:
        torch.testing.assert_close(found[0] / value, (s[0] / value) @ w, rtol=0, atol=0.2)


def test_two_products_fit_in_16_bits() -> None:
    """Processors of x86 without VNNI add them so, and what is too large becomes the largest number there is."""
    assert 2 * LARGEST_UNSIGNED * LARGEST_WEIGHT < 2**15 and ZERO + LARGEST_SIGNED <= LARGEST_UNSIGNED
    assert INT8.weight(_random(40, 60)).codes.abs().max() == LARGEST_WEIGHT


def test_a_weight_without_numbers_gives_zero() -> None:
    w = _random(OUT, IN)
    w[1] = 0
    weight = INT8.weight(w)
    assert weight.scale.isfinite().all() and not weight.codes[1].any()
    assert not INT8.back(torch.eye(OUT)[1:2], weight, None).any()


def _linear(table: Table, g: Tensor, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    y = torch.nn.functional.linear(x, w, b)
    (found,) = table[aten.linear](g, Call(y, (x, w) if b is None else (x, w, b), {}, (True, False, False)))
    assert isinstance(found, Tensor)
    return found


TABLES = {
    "gradient": (gradient(INT8), gradient()),
    "relevance": (chefer(products=INT8), chefer()),
    "relevance_alpha_2": (chefer(2, 1, INT8), chefer(2, 1)),
    "attnlrp": (attnlrp(products=INT8), attnlrp()),
    "attnlrp_gamma": (attnlrp(0, 0.25, INT8), attnlrp(0, 0.25)),
}


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_rule_of_linear_layers(name: str, biased: bool) -> None:
    int8, exact = TABLES[name]
    x, w, g = _random(2, 6, 64), _random(48, 64, seed=1), _random(3, 2, 6, 48, seed=2)
    b = _random(48, seed=3) if biased else None
    found, right = (
        _linear(table, g.double(), x.double(), w.double(), None if b is None else b.double()) for table in (int8, exact)
    )
    if name.startswith("relevance"):  # where a denominator is all but zero, nothing is resolved
        close = (found - right).abs() <= 0.1 * right.abs() + 0.1 * right.abs().mean()
        assert close.double().mean() > 0.9
    else:
        assert 1e-4 < ((found - right).norm() / right.norm()).item() < 0.03


def test_a_sum_of_magnitudes_is_at_least_that_of_the_sum() -> None:
    """Else a denominator of Chefer's rule has the wrong sign, where all products of a row have the same."""
    x, w = _random(1, 40, 16).abs(), _random(8, 16, seed=1).abs()
    g = torch.ones(1, 1, 40, 8)
    found, right = (_linear(chefer(products=products), g, x, w, None) for products in (INT8, FLOAT))
    torch.testing.assert_close(found.sum(-1), right.sum(-1), rtol=0.02, atol=0)


def test_all_but_products_of_linear_layers_are_the_same_rules() -> None:
    changed = {op for op, rule in gradient(INT8).items() if rule is not GRADIENT[op]}
    assert changed == {aten.linear} and gradient() is GRADIENT
    assert stem(products=INT8).keys() == stem().keys()


def test_weights_in_float64_have_the_codes_of_float32() -> None:
    """A file holds the codes of float32, which what computes in float64 is compared with."""
    w = _random(40, 60)
    single, double = INT8.weight(w), INT8.weight(w.double())
    assert torch.equal(single.codes, double.codes) and double.scale.dtype == torch.float64
    assert torch.equal(single.scale.double(), double.scale)
    assert math.isclose(
        (single.codes.float() * single.scale[:, None] - w).abs().max(), single.scale.max() / 2, rel_tol=0.5
    )
