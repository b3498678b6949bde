"""Numbers have the digits that their intervals warrant."""

import math

import pytest

from onnxplain.evaluation.report.numbers import formatter
from onnxplain.evaluation.statistics import Score


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (53.127, 2.2, "53.1"),
        (531.27, 30, "531"),
        (0.38712, 0.031, "0.387"),
        (0.5, 0.0, "0.500"),
        (1.234e-7, 2e-8, "1.2e-7"),
        (-4e6, 2e5, "-4.0e6"),
        (math.nan, math.nan, "–"),
    ],
)
def test_digits(value, half, shown):
    assert formatter([Score(value, value - half, value + half, 9, 9, (value,), 1)])(value) == shown


def test_a_column_has_one_form():
    column = [Score(value, value - 1e-8, value + 1e-8, 9, 9, (value,), 1) for value in (1e-7, 2e-7, 0.0)]
    assert [formatter(column)(score.value) for score in column] == ["1.0e-7", "2.0e-7", "0"]
