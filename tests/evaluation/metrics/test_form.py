"""Form, against sums over pairs and pixels, and cases done by hand."""

import math

import numpy as np
import pytest

from onnxplain.evaluation.metrics.form import complexity, sparseness
from tests.helpers.judged import judged

ONE_PIXEL = np.zeros((4, 5))
ONE_PIXEL[1, 2] = -3


@pytest.mark.parametrize(
    ("heatmap", "gini", "entropy"),
    [
        (np.full((4, 5), 0.1), 0, math.log(20)),
        (np.zeros((4, 5)), 0, math.log(20)),
        (ONE_PIXEL, 1 - 1 / 20, 0),
        (np.array([[1.0, -1.0], [0.0, 0.0]]), 0.5, math.log(2)),
    ],
    ids=["constant", "zero", "one pixel", "half"],
)
def test_cases_done_by_hand(heatmap, gini, entropy):
    assert sparseness(judged(heatmap)) == pytest.approx((gini,), abs=1e-12)
    assert complexity(judged(heatmap)) == pytest.approx((entropy,), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_against_other_formulas(seed):
    heatmap = np.random.default_rng(seed).normal(size=(5, 7)).astype(np.float32)
    sizes = [abs(float(value)) for value in heatmap.ravel()]
    pairs = sum(abs(a - b) for a in sizes for b in sizes)  # Gini: half the mean difference of pairs, over the mean
    assert sparseness(judged(heatmap)) == pytest.approx((pairs / (2 * len(sizes) * sum(sizes)),), rel=1e-12)
    entropy = -sum(a / sum(sizes) * math.log(a / sum(sizes)) for a in sizes)
    assert complexity(judged(heatmap)) == pytest.approx((entropy,), rel=1e-12)


def test_the_sign_and_scale_of_a_map_make_no_difference():
    heatmap = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    for function in (sparseness, complexity):
        assert function(judged(-4 * heatmap)) == pytest.approx(function(judged(heatmap)), rel=1e-12)
