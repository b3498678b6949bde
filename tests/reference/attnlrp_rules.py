"""Each rule of AttnLRP in the least clever way: float64, one contribution at a time, tiny tensors only.

The share g of a value is its relevance divided by the value; every rule takes the share of the output and returns that
of its inputs. (Achtibat et al. 2024.)
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .rules import products

Function = Callable[[float], float]


def _phi(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gelu_tanh(x: float) -> float:
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


FUNCTIONS: dict[str, tuple[Function, float]] = {
    "gelu": (lambda x: x * _phi(x), 0.5),
    "gelu_tanh": (gelu_tanh, 0.5),
    "silu": (lambda x: x * _sigmoid(x), 0.5),
    "sigmoid": (_sigmoid, 0.25),
    "tanh": (math.tanh, 1.0),
    "relu": (lambda x: max(x, 0.0), 0.0),
    "exp": (math.exp, 1.0),
}
"""f and its slope at 0."""


def elementwise(name: str, share: Tensor, x: Tensor) -> Tensor:
    """y = f(x) keeps its relevance: g f(x) / x, and g f'(0) where x is 0."""
    f, slope = FUNCTIONS[name]
    pairs = zip(share.flatten().tolist(), x.flatten().tolist(), strict=True)
    return torch.tensor([g * (f(v) / v if v else slope) for g, v in pairs], dtype=torch.float64).reshape(x.shape)


def matmul(a: Tensor, b: Tensor, share: Tensor, part: float = 1 / 2) -> tuple[Tensor, Tensor]:
    """Z_ij = sum_k A_ik B_kj: ``part`` of A_ik B_kj g_ij to A_ik, as much to B_kj. Two-dimensional tensors."""
    share_a, share_b = torch.zeros_like(a), torch.zeros_like(b)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                share_a[i, k] += part * float(b[k, j]) * float(share[i, j])
                share_b[k, j] += part * float(a[i, k]) * float(share[i, j])
    return share_a, share_b


def layer_norm(x: Tensor, weight: Tensor, share: Tensor, eps: float) -> Tensor:
    """One row: y_i = w_i (x_i - mean(x)) / sigma + b_i, where sigma counts as a constant."""
    values, n = x.tolist(), len(x)
    mean = sum(values) / n
    sigma = math.sqrt(sum((v - mean) ** 2 for v in values) / n + eps)
    scaled = [g * w / sigma for g, w in zip(share.tolist(), weight.tolist(), strict=True)]
    found = [sum(s * ((i == k) - 1 / n) for i, s in enumerate(scaled)) for k in range(n)]
    return torch.tensor(found, dtype=torch.float64)


def rms_norm(x: Tensor, weight: Tensor, share: Tensor, eps: float) -> Tensor:
    """One row: y_i = w_i x_i / rms, where rms counts as a constant."""
    rms = math.sqrt(sum(v * v for v in x.tolist()) / len(x) + eps)
    found = [g * w / rms for g, w in zip(share.tolist(), weight.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def _gamma(terms: list[tuple[float, float]], bias: float, share: float, gamma: float) -> list[float]:
    """The shares of the inputs x_i of one output y = sum_i x_i w_i + b, ``terms`` being the pairs (x_i, w_i).

    Of y > 0, input i gets (f_i + gamma f_i+) / (y + gamma (sum f+ + b+)) with f_i = x_i w_i, and the bias what is left;
    of y < 0 the same with f- and b-. An input of 0 has no relevance; its share is between those of a little more and a
    little less.
    """
    y = sum(x * w for x, w in terms) + bias
    if y == 0:
        return [0.0 for _ in terms]
    sign = math.copysign(1.0, y)
    agreeing = sum(f for f in (*(x * w for x, w in terms), bias) if f * sign > 0)
    per_unit = share * y / (y + gamma * agreeing)
    return [per_unit * w * (1 + gamma * (1 + math.copysign(1.0, x * w * sign) * (x != 0)) / 2) for x, w in terms]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, share: Tensor, gamma: float) -> Tensor:
    """The gamma rule of y = x W' + b. x [rows, in], weight [out, in], share [rows, out]."""
    result = torch.zeros_like(x)
    for row in range(x.shape[0]):
        for j, weights in enumerate(weight.tolist()):
            terms = list(zip(x[row].tolist(), weights, strict=True))
            b = 0.0 if bias is None else float(bias[j])
            result[row] += torch.tensor(_gamma(terms, b, float(share[row, j]), gamma), dtype=torch.float64)
    return result


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, share: Tensor, gamma: float, **geometry: object
) -> Tensor:
    """The gamma rule of a convolution of one image x [C, H, W]. geometry: as for `rules.products`."""
    result = torch.zeros_like(x)
    for output, terms in products(x, weight, **geometry):
        b = 0.0 if bias is None else float(bias[output[0]])
        shares = _gamma([(float(x[place]), w) for place, w in terms], b, float(share[output]), gamma)
        for (place, _), received in zip(terms, shares, strict=True):
            result[place] += received
    return result
