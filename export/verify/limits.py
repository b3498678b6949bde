"""How far the file's outputs may be off PyTorch's, and the lines of the report that say how far they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.outputs import HEATMAP, output_of
from onnxplain.runtime.methods.table import METHODS

from .report import Check

LIMIT = 1e-7
"""Relative error in float64 that is always allowed. Right files are off by 6e-8 and less, unless a denominator is all
but zero: numbers that export has computed from others are rounded to float32."""
LIMIT_BY_AUTOGRAD = 1e-5
"""The same where autograd is what the file is compared with: it has its own constants, not rounded to float32."""
LAST_BIT, NOISE = 1000.0, 1e-3
"""How many times what PyTorch's float64 is off, pixels changed by their last bit, the file may be off, and how much at
most. It is looked at where the file is off by more than the above."""
FLOAT32, FLOAT32_FACTOR = 1e-2, 100.0
"""Relative error of logits and attention from the file itself, run in float32, that is always allowed; and how many
times that of eager float32, pixels changed by their last bit: this finds a file that onnxruntime runs wrongly."""

LIMIT_AS_IT_IS = 1e-6
"""Relative error of any output from a file that computes in float64, run as it is: outputs are rounded to float32."""
MAX_OF_FLOAT16 = 1e-1
"""Relative error of logits and attention that weights in float16 may cause: it is 1e-3 and less, and up to 6e-2 where
weights are so large that attention is all but on single tokens."""
COMMON = 1e-5
"""Relative error up to which two programs in float32 count as the same; beyond it float64 decides."""

DIVIDING = ("relevance", "pixel_relevance")
"""The passes that divide by sums near zero."""

IN_BOTH = {"logits", "attention"}
"""What is compared in float32 as well."""

PRODUCT = 0.4
"""Norm of what int8 changes in a single product, relative to the exact one's. Mostly it is 0.02, and where one of k
values in a row is so large that the others are half a step, sqrt(k) / 254: 0.3 for the widest layers."""
ROUNDED, ROUNDED_DIVIDING, ROUNDED_FACTOR = 0.25, 0.9, 2.0
"""The same in an output, that is always allowed, also of passes that divide by sums near zero; and how many times what
float32 changes. The last two say little, as some relevance is noise in float32 too: its products tell that it is right.
"""

OF_INT8, OF_PRODUCTS = "what int8 changes, by norm, in float64", "what int8 changes in one, by norm, in float64"
OF_FLOAT16 = "what weights in float16 change, in float64"
EQUAL, IN_FLOAT32 = "error against PyTorch, in float64", "error against PyTorch, in float32"
AS_IT_IS = "error against PyTorch in float64, the file run as it is"
SOUND = "finite and of the right shape"
RANKS = "ranks that stand for another class than they should"


@dataclass
class Errors:
    """The relative errors of one output, one for each sample that was compared.

    Attributes:
        double: Of the file in float64.
        noise: Of PyTorch in float64 where the pixels change by their last bit, for samples in which it had to be known.
        single: Of the file in float32, or as it is run if it computes in float64.
        eager: Of PyTorch in float32 where the pixels change by their last bit, likewise.
        int8: How much products in int8 change, in artifacts that have them.
        float32: How much float32 does, for samples in which it had to be known.
        float16: Of the file in float64 against the model whose weights are not rounded, in files that have such.
    """

    double: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    single: list[float] = field(default_factory=list)
    eager: list[float] = field(default_factory=list)
    int8: list[float] = field(default_factory=list)
    float32: list[float] = field(default_factory=list)
    float16: list[float] = field(default_factory=list)


def limit_in_double(by_autograd: bool, of_float64: bool = False) -> float:
    """The relative error in float64 that is always allowed for an output.

    Args:
        by_autograd: Whether autograd has a part in what the output is compared with.
        of_float64: Whether the file computes in float64, with constants that are not rounded to float32.
    """
    return LIMIT_BY_AUTOGRAD if by_autograd and not of_float64 else LIMIT


def checks(name: str, errors: Errors, by_autograd: bool, of_float64: bool = False) -> Iterator[Check]:
    """The lines of the report for one output; ``by_autograd`` and ``of_float64`` are as for ``limit_in_double``."""
    if not errors.double:
        yield _check(
            name, AS_IT_IS if of_float64 else IN_FLOAT32, errors.single, LIMIT_AS_IT_IS if of_float64 else COMMON
        )
        return
    limit = max(limit_in_double(by_autograd, of_float64), min(NOISE, LAST_BIT * _finite(errors.noise)))
    yield _check(name, EQUAL, errors.double, limit)
    if errors.int8:
        yield _check_of_int8(name, errors)
    if errors.float16:
        yield _check(name, OF_FLOAT16, errors.float16, MAX_OF_FLOAT16)
    if of_float64:
        yield _check(name, AS_IT_IS, errors.single, max(LIMIT_AS_IT_IS, limit))
    elif name in IN_BOTH:
        limit = max(FLOAT32, FLOAT32_FACTOR * _finite(errors.eager))
        yield _check(name, IN_FLOAT32, errors.single, limit)


def limit_of_int8(name: str) -> float:
    """How much products in int8 may change an output in any case."""
    passes = METHODS[name.removeprefix(HEATMAP)].passes if name.startswith(HEATMAP) else output_of(name).passes
    return ROUNDED if set(DIVIDING).isdisjoint(passes) else ROUNDED_DIVIDING


def _check_of_int8(name: str, errors: Errors) -> Check:
    """The line of the report for what products in int8 change."""
    return _check(name, OF_INT8, errors.int8, max(limit_of_int8(name), ROUNDED_FACTOR * _finite(errors.float32)))


def checks_of_products(errors: Sequence[float]) -> Iterator[Check]:
    """The line of the report for products in int8, each compared with the exact one of the same values."""
    if errors:
        yield _check("products in int8", OF_PRODUCTS, errors, PRODUCT)


def check_of_ranks(wrong: int) -> Check:
    """The line of the report for ``class_index``, of which so many entries are wrong."""
    return Check("class_index", RANKS, float(wrong), 0.0, wrong == 0)


def relative_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The greatest difference relative to the greatest value of ``b``."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(np.float32).tiny))


def relative_norm(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The norm of the difference relative to that of ``b``."""
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), np.finfo(np.float32).tiny))


def _worst(errors: Sequence[float]) -> float:
    """NaN if there is one."""
    return float(np.max(errors)) if errors else 0.0


def _finite(errors: Sequence[float]) -> float:
    """The worst, and 0, which allows nothing, if it is not finite."""
    worst = _worst(errors)
    return worst if math.isfinite(worst) else 0.0


def _check(name: str, check: str, errors: Sequence[float], limit: float) -> Check:
    return Check(name, check, _worst(errors), limit, _worst(errors) <= limit)
