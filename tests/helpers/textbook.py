"""Rules against element-by-element formulas: how a `Case.textbook` is put together, and the comparison.

Formulas are applied one target and one sample at a time, so nothing can leak from one to another.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from onnxplain.lrp_graph.reverse import Table
from tests.helpers.rule_cases import (
    BATCH,
    TARGETS,
    Case,
    assert_close,
    inputs,
    random,
    shares,
    slightly_wrong,
    where_moved,
)

Textbook = Callable[..., Sequence[Tensor]]
"""(one target's share of one sample, the sample's varying tensors, constants) -> shares of the varying ones."""


def all_of_it(r: Tensor, x: Tensor, *_: Tensor) -> Sequence[Tensor]:
    """The only varying tensor gets everything; where it was repeated, the sum over the repetitions."""
    return [r.sum_to_size(x.shape)]


def each_matrix(rule: Textbook) -> Textbook:
    """Apply a rule for matrices to each pair of matrices, then sum over what was repeated."""

    def textbook(r: Tensor, *tensors: Tensor) -> Sequence[Tensor]:
        full = [t.expand(*r.shape[:-2], *t.shape[-2:]) for t in (r, *tensors)]
        parts = [rule(*each) for each in zip(*(t.reshape(-1, *t.shape[-2:]) for t in full), strict=True)]
        found = [torch.stack(matrices) for matrices in zip(*parts, strict=True)]
        return [
            part.reshape(whole.shape).sum_to_size(t.shape)
            for part, whole, t in zip(found, full[1:], tensors, strict=False)
        ]

    return textbook


def both_get(rule: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Textbook:
    """Apply a rule (a, b, r) for equal shapes, then sum over what was repeated."""

    def textbook(r: Tensor, a: Tensor, b: Tensor) -> Sequence[Tensor]:
        whole = [t.expand_as(r)[None] for t in (a, b)]
        return [part[0].sum_to_size(t.shape) for part, t in zip(rule(*whole, r[None]), (a, b), strict=True)]

    return textbook


def with_zeros(case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs with zeros among the denominators: a row and a column of the first sample, x + y = 0 in the second."""
    varying, constants = inputs(case)
    for x in varying:
        x[0, 0] = 0
        x[0, ..., 0] = 0
    if len(varying) == 2 and varying[0].shape == varying[1].shape:
        varying[1][1, 0] = -varying[0][1, 0]
    return varying, constants


def check(case: Case, table: Table) -> None:
    varying, constants = with_zeros(case)
    y = case.run(*varying, *constants)
    r = random(TARGETS, *y.shape, seed=99).float().to(y.dtype)  # what casts do not round
    actual = shares(case, table, varying, constants, r)
    if case.textbook is None:
        expected = where_moved(case, r, varying)
    else:
        single = [[case.textbook(part[i], *(x[i] for x in varying), *constants) for i in range(BATCH)] for part in r]
        expected = [
            torch.stack([torch.stack([s[place] for s in row]) for row in single]) for place in range(len(varying))
        ]
    for found, wanted in zip(actual, expected, strict=True):
        assert_close(found, wanted)


def check_twice(case: Case, table: Table) -> None:
    """With the table, and that it would fail if the case's rule were off by a millionth."""
    check(case, table)
    with pytest.raises(AssertionError):
        check(case, slightly_wrong(table, case.op))
