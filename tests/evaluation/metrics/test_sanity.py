"""Sanity, against scipy and cases done by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from onnxplain.evaluation.metrics.sanity import ROWS, black_image, completeness, random_logit
from onnxplain.evaluation.metrics.similarity import spearman
from tests.helpers.judged import MEAN, STD, case, judged

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("levels", [None, 5], ids=["all different", "many equal"])
@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_against_scipy(seed, levels):
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(2, 9, 7)) if levels is None else rng.integers(0, levels, (2, 9, 7))
    first, second = maps.astype(np.float32)
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    assert spearman(first, second) == pytest.approx(expected, abs=1e-12)
    assert random_logit(judged(first, other=second)) == (spearman(first, second),)


def test_rank_correlation_by_hand():
    heatmap = RANDOM.normal(size=(4, 5)).astype(np.float32)
    constant, zero = np.full((4, 5), 0.3, np.float32), np.zeros((4, 5), np.float32)
    assert spearman(heatmap, heatmap) == 1 and spearman(heatmap, -heatmap) == -1
    assert spearman(heatmap, np.exp(heatmap)) == 1  # only the order counts
    assert spearman(heatmap, constant) == spearman(zero, heatmap) == 0 and spearman(constant, zero) == 1


def test_a_method_without_classes_has_no_random_logit():
    assert random_logit(judged(np.ones((4, 5)))) is None


def test_black_is_black():
    given = case((4, 5))
    (copy,) = black_image(given, np.zeros((4, 5), np.float32), "")
    shown = copy * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]
    assert copy.shape == (3, 4, 5) and copy.dtype == np.float32 and np.abs(shown).max() < 1e-7


@pytest.mark.parametrize(
    ("method", "total", "missing"),
    [
        ("integrated_gradients", 2 - 0.5, 0),
        ("integrated_gradients", 2, 0.25),
        ("attnlrp", 2, 0),
        ("attnlrp", 1, 0.5),
        ("cp_lrp", -2, 2),
        ("cp_lrp", 0, 1),
    ],
)
def test_what_is_missing_from_the_sum(method, total, missing):
    """The logit is 2, that of a black image 0.5."""
    one = judged(np.full((4, 5), total / 20), method=method, logits=[[0.5, 9, 9]])
    assert completeness(one) == pytest.approx((missing,), abs=1e-6)


def test_it_is_a_share_of_the_size_of_a_negative_logit():
    one = judged(np.full((4, 5), -0.5 / 20), method="attnlrp", logits=[[0, 0, 0]], target=1)
    assert completeness(one) == pytest.approx((0.5,), abs=1e-6)


def test_without_a_logit_there_is_no_share_of_it():
    one = judged(np.ones((4, 5)), method="attnlrp", logits=[[0, 0, 0]], given=case((4, 5), logits=(0.0, 1.0)))
    assert completeness(one) is None


def test_only_methods_that_promise_a_sum():
    rows = {row.name: row for row in ROWS}
    assert set(rows["completeness"].only) == {"attnlrp", "cp_lrp", "integrated_gradients"}
    assert rows["random_logit"].needs == {"other"} and not rows["random_logit"].only
