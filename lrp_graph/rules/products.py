"""The products with weights in backward passes: in the dtype of the values, or in int8.

In int8 the rows of a weight W [out, in] are whole numbers from -64 to 64, their codes, times a factor for each row, and
rows of values are rounded to a grid of their own, whose step is their greatest magnitude over the largest code. |W| has
the magnitudes of the same codes, so one copy of the weight is enough for all products. Sums are exact, in int32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LARGEST_WEIGHT = 64
"""The largest code of a weight. Processors of x86 without VNNI add two products with codes up to 255 in 16 bits: with
weights up to 127 that overflows, and attention gradients of the demo were off by 25 %."""
LARGEST_SIGNED, LARGEST_UNSIGNED = 127, 255
"""The largest codes of rows of values: of either sign, and from 0."""
ZERO = 128
"""What stands for 0 in rows of either sign, whose codes are unsigned: what processors multiply by signed ones."""
TINY = 1e-30
"""The smallest step: rows whose values are smaller still count as 0."""


@dataclass(frozen=True)
class Products:
    """How a backward pass multiplies by the weight of a linear layer y = x W'.

    Attributes:
        weight: Of W [out, in] makes what the other two take, which has `abs()`.
        forward: (x, weight) -> x W', [..., in] to [..., out], for x and W that are not negative.
        back: (s, weight, divisor) -> (s / divisor) W, [..., out] to [..., in]; s W where the divisor is None. It is
            the same for all targets, [batch, ..., out].
    """

    weight: Callable[[Tensor], Any]
    forward: Callable[[Tensor, Any], Tensor]
    back: Callable[[Tensor, Any, Tensor | None], Tensor]


FLOAT = Products(lambda w: w, lambda x, w: x @ w.mT, lambda s, w, divisor: (s if divisor is None else s / divisor) @ w)
"""In the dtype of the values."""


@dataclass(frozen=True)
class Codes:
    """A weight in int8: codes [out, in] times scale [out]."""

    codes: Tensor
    scale: Tensor

    def abs(self) -> Codes:
        """The magnitudes."""
        return Codes(self.codes.abs(), self.scale)


def _codes(w: Tensor) -> Codes:
    codes, scale = torch.ops.onnxplain.weight_codes(w)
    return Codes(codes, scale.to(w.dtype).flatten())


def _forward(x: Tensor, w: Codes) -> Tensor:
    return _product(x, x.amax(-1, keepdim=True), LARGEST_UNSIGNED, 0, w.codes.mT) * w.scale


def _back(s: Tensor, w: Codes, divisor: Tensor | None) -> Tensor:
    scaled = s * (w.scale if divisor is None else w.scale / divisor)
    greatest = torch.maximum(scaled.amax(-1, keepdim=True), -scaled.amin(-1, keepdim=True))
    return _product(scaled, greatest, LARGEST_SIGNED, ZERO, w.codes)


def _product(x: Tensor, greatest: Tensor, largest: int, zero: int, codes: Tensor) -> Tensor:
    """Rows of values [..., k], whose greatest magnitudes are given, times codes [k, n]."""
    step = (greatest / largest).clamp(min=TINY)
    rows = torch.ops.onnxplain.row_codes(x / step, zero)
    product: Tensor = torch.ops.onnxplain.integer_product(rows, codes, step, zero)
    return product


INT8 = Products(_codes, _forward, _back)
"""In int8."""


@dataclass(frozen=True)
class _Both:
    """A weight in int8 and as it is."""

    codes: Codes
    exact: Tensor

    def abs(self) -> _Both:
        """The magnitudes."""
        return _Both(self.codes.abs(), self.exact.abs())


def compared(note: Callable[[Tensor, Tensor, Tensor], None]) -> Products:
    """Products in int8, of each of which ``note`` is told.

    Args:
        note: Takes the product in int8, the exact one of the same values, and the norm that this one has if its terms
            are of random signs: of terms that all but cancel the exact one is no measure of what rounding does.
    """

    def forward(x: Tensor, w: _Both) -> Tensor:
        product, exact = _forward(x, w.codes), FLOAT.forward(x, w.exact)
        note(product, exact, exact.norm())  # no term is negative
        return product

    def back(s: Tensor, w: _Both, divisor: Tensor | None) -> Tensor:
        product, exact = _back(s, w.codes, divisor), FLOAT.back(s, w.exact, divisor)
        factors = (s if divisor is None else s / divisor).flatten(0, -2)
        note(product, exact, (factors.square() @ w.exact.square()).sum().sqrt())
        return product

    return Products(lambda w: _Both(_codes(w), w), forward, back)


@torch.library.custom_op("onnxplain::weight_codes", mutates_args=())
def _weight_codes(w: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [out, in] and float32 [out, 1], in float32 whatever the dtype of w, so that a file has the same codes."""
    w = w.to(torch.float32)
    scale = (w.abs().amax(1, keepdim=True) / LARGEST_WEIGHT).clamp(min=TINY)
    return (w / scale).round().to(torch.int8), scale


@_weight_codes.register_fake
def _(w: Tensor) -> tuple[Tensor, Tensor]:
    return w.new_empty(w.shape, dtype=torch.int8), w.new_empty((w.shape[0], 1), dtype=torch.float32)


@torch.library.custom_op("onnxplain::row_codes", mutates_args=())
def _row_codes(x: Tensor, zero: int) -> Tensor:
    """uint8 [..., k]: x [..., k] rounded half to even, with zero added."""
    return (x.round() + zero).clamp(0, LARGEST_UNSIGNED).to(torch.uint8)


@_row_codes.register_fake
def _(x: Tensor, zero: int) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.uint8)


@torch.library.custom_op("onnxplain::integer_product", mutates_args=())
def _integer_product(rows: Tensor, codes: Tensor, step: Tensor, zero: int) -> Tensor:
    """((rows - zero) codes) step: rows [..., k] times codes [k, n], summed in int32, times step [..., 1], of its dtype.

    float64 holds these sums exactly.
    """
    return ((rows.double() - zero) @ codes.double()).to(step.dtype) * step


@_integer_product.register_fake
def _(rows: Tensor, codes: Tensor, step: Tensor, zero: int) -> Tensor:
    return step.new_empty((*rows.shape[:-1], codes.shape[1]))
