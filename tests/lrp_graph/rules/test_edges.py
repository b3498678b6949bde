"""Rules where their formulas could break: at 0, far from it, and where nothing is left but rounding noise."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.lrp_graph.reverse import Call
from onnxplain.lrp_graph.rules.chefer import chefer
from onnxplain.lrp_graph.rules.vjp import GRADIENT
from tests.helpers.rule_cases import assert_close, random
from tests.reference import rules

aten = torch.ops.aten

NEAR_0 = [10.0**-power for power in (1, 2, 4, 7, 10, 15, 19, 21, 30, 37)]
PLACES = [0.0, -0.0, *NEAR_0, *(-x for x in NEAR_0), *torch.linspace(-12, 12, 997).tolist(), -40.0, 40.0, -1e4, 1e4]

ACTIVATIONS = {
    "gelu": (aten.gelu, {}),
    "gelu_tanh": (aten.gelu, {"approximate": "tanh"}),
    "silu": (aten.silu, {}),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)], ids=str)
def test_slope_of_an_activation_anywhere(name: str, dtype: torch.dtype, tolerance: float) -> None:
    op, options = ACTIVATIONS[name]
    x = torch.tensor(PLACES, dtype=dtype)
    exact = x.double().requires_grad_()
    (expected,) = torch.autograd.grad(op(exact, **options).sum(), exact)
    (found,) = GRADIENT[op](torch.ones_like(x)[None], Call(op(x, **options), (x,), options, (True,)))
    assert found.dtype == dtype
    assert torch.allclose(found[0].double(), expected, rtol=0, atol=tolerance)
    assert expected[:2].eq(0.5).all()


def shared(x: Tensor, w: Tensor, b: Tensor, r: Tensor, alpha: float, beta: float) -> Tensor:
    """What Chefer's rule gives a linear layer's input."""
    (found,) = chefer(alpha, beta)[aten.linear](r[None], Call(F.linear(x, w, b), (x, w, b), {}, (True, False, False)))
    return found[0]


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
def test_linear_layers_without_any_product(dtype: torch.dtype, tolerance: float, alpha: float, beta: float) -> None:
    """A row of zeros, a weight row of zeros, and weights that miss all that is not zero in the input."""
    x, w, b, r = random(5, 8), random(6, 8, seed=1), 10 * random(6, seed=2), random(5, 6, seed=3)
    x[0] = 0
    w[1] = 0
    x[1, :4], w[2, 4:] = 0, 0
    expected = rules.linear(x, w, r, alpha, beta)
    x, w, b, r = (t.to(dtype) for t in (x, w, b, r))
    b[3] = 0.1  # y - b is 0 for the row of zeros, whatever y is rounded to
    found = shared(x, w, b, r, alpha, beta)
    assert_close(found.double(), expected, tolerance)
    assert found[0].eq(0).all()


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 1)])
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1, 1e6])
def test_rounding_noise_of_any_size_gets_nothing(scale: float, alpha: float, beta: float) -> None:
    """In float32, outputs that all speak against or all for, from inputs far smaller and larger than epsilon."""
    x, w, r = random(16, 512).abs(), random(8, 512, seed=1).abs(), random(16, 8, seed=2)
    x, w, r = (scale * x).float(), w.float(), r.float()
    w[:4] *= -1
    found = shared(x, w, torch.zeros(8), r, alpha, beta).double()
    assert_close(found, rules.linear(x.double(), w.double(), r.double(), alpha, beta), 2e-5)


def test_relevance_is_kept_in_float32() -> None:
    """What tells rounding noise makes no denominator larger or smaller throughout."""
    x, w, r = random(64, 384).float(), random(256, 384, seed=1).float(), random(64, 256, seed=2).abs().float()
    found = shared(x, w, torch.zeros(256), r, 1, 0)
    total = float(r.double().sum())
    assert abs(float(found.double().sum()) - total) <= 2e-7 * total
