"""Products that onnxruntime computes for PyTorch: the same numbers, whichever way matrices lie in memory."""

import pytest
import torch
from torch.nn import functional as F

from onnxplain.export.verify import products
from onnxplain.export.verify.products import FastProducts

SIZE = 128  # multiplied, above products.LARGE


@pytest.fixture
def asked(monkeypatch):
    """The products that onnxruntime was asked for, as the dtype and whether the factors are given transposed."""
    found, session = [], products._session
    monkeypatch.setattr(products, "_session", lambda *given: found.append(given[:3]) or session(*given))
    return found


def _stored(rows, columns, layout, dtype):
    if layout == "transposed":
        return torch.randn(columns, rows, dtype=dtype).mT
    if layout == "strided":
        return torch.randn(rows, 2 * columns, dtype=dtype)[:, ::2]
    return torch.randn(rows, columns, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("left", ["rows", "transposed", "strided"])
@pytest.mark.parametrize("right", ["rows", "transposed", "strided"])
def test_products(dtype, left, right, asked):
    a, b = _stored(SIZE, SIZE + 1, left, dtype), _stored(SIZE + 1, SIZE + 2, right, dtype)
    bias, exact = torch.randn(SIZE + 2, dtype=dtype), a.double() @ b.double()
    with FastProducts():
        product, sum_ = a @ b, torch.addmm(bias, a, b)
    limits = {"rtol": 0, "atol": 1000 * torch.finfo(dtype).eps}
    torch.testing.assert_close(product.double(), exact, **limits)
    torch.testing.assert_close(sum_.double(), exact + bias, **limits)
    assert asked == [(dtype, left == "transposed", right == "transposed")] * 2


def test_layers_and_their_gradients(asked):
    x, w = torch.randn(2, SIZE, SIZE, dtype=torch.float64), torch.randn(SIZE, SIZE, dtype=torch.float64)
    results = []
    for context in (torch.no_grad, FastProducts):
        with context(), torch.enable_grad():
            given = x.clone().requires_grad_()
            y = F.linear(given, w)
            results.append((y.detach(), *torch.autograd.grad(y.square().sum(), given)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-9)
    assert len(asked) == 2


def test_what_is_left_to_pytorch(asked):
    small, whole = torch.ones(2, 2), torch.ones(SIZE, SIZE, dtype=torch.int64)
    half = torch.ones(SIZE, SIZE, dtype=torch.bfloat16)
    with FastProducts():
        results = [
            small @ small,
            whole @ whole,
            half @ half,
            torch.addmm(torch.ones(SIZE, SIZE), *[torch.eye(SIZE)] * 2, beta=2),
        ]
    assert not asked and [float(one[0, 0]) for one in results] == [2, SIZE, SIZE, 3]
