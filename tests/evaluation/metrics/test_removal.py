"""Orders of pixels and baselines, and the metrics on maps whose value is known: the mask, its negative, a constant."""

import sys

import numpy as np
import pytest

from onnxplain.contract.errors import OnnxplainError
from onnxplain.evaluation.metrics.masked_input import scaled
from onnxplain.evaluation.metrics.removal import BASELINES, order, remove
from onnxplain.evaluation.metrics.similarity import pearson
from onnxplain.evaluation.metrics.table import METRICS
from tests.helpers.cases import make_case, measured

SIZE = 20, 30
MASK = np.zeros(SIZE, np.float32)
MASK[5:15, 10:20] = 1  # 100 of 600 pixels, four patches of 24


def model(pixels):
    """Class 0: how much of the object, which is 1, is there; a logit of 4 for all of it, of 0 for none."""
    return np.stack([4 * (pixels[:, 0] * MASK).mean((1, 2)) / MASK.mean(), np.zeros(len(pixels))], 1).astype(np.float32)


CASE = make_case(np.ones((3, *SIZE), np.float32), model, patch=5)


def value(name, heatmap, **options):
    return measured(METRICS[name], CASE, model, np.asarray(heatmap, np.float32), **options)


def sigmoid(logit):
    return 1 / (1 + np.exp(-logit))


def test_equal_values_are_ordered_at_random_but_always_alike():
    first = order(CASE, MASK, descending=True)
    assert np.array_equal(np.sort(first), np.arange(600))
    assert np.array_equal(MASK.flat[first[:100]], np.ones(100)) and not np.array_equal(
        first[:100], np.sort(first[:100])
    )
    assert np.array_equal(first, order(CASE, MASK * 7, descending=True))
    assert np.array_equal(first[::-1], order(CASE, MASK, descending=False))
    other = make_case(CASE.pixels, model, seed=1)
    assert not np.array_equal(first, order(other, MASK, descending=True))


def test_baselines_change_nothing_but_what_is_removed():
    pixels = np.random.default_rng(0).standard_normal((3, *SIZE)).astype(np.float32)
    case, where = make_case(pixels, model), MASK > 0
    for name in BASELINES:
        without = remove(case, where, name)
        assert without.dtype == np.float32 and np.isfinite(without).all()
        assert np.array_equal(without[:, ~where], pixels[:, ~where])
        assert (without[:, where] != pixels[:, where]).all()
        assert np.array_equal(remove(case, np.zeros(SIZE, bool), name), pixels)
    np.testing.assert_allclose(remove(case, where, "black")[:, 7, 12], [-1, -1.6, -3], rtol=1e-6)
    assert (remove(case, where, "mean")[:, where] == 0).all()


def test_a_constant_image_is_its_own_blur_and_its_own_imputation():
    where = MASK > 0
    np.testing.assert_allclose(remove(CASE, where, "blur"), CASE.pixels, rtol=1e-6)
    noise = (remove(CASE, where, "noisy-linear") - CASE.pixels)[:, where]
    assert noise.std() == pytest.approx(0.01, rel=0.15) and abs(noise.mean()) < 0.002


def test_all_pixels_removed_leave_the_mean_and_noise():
    nothing = remove(CASE, np.ones(SIZE, bool), "noisy-linear")
    assert nothing.std() == pytest.approx(0.01, rel=0.1) and abs(nothing.mean()) < 0.002


def test_without_scipy_the_baseline_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(OnnxplainError, match=r"noisy-linear needs scipy: pip install 'onnxplain\[report\]'"):
        remove(CASE, MASK > 0, "noisy-linear")


def test_deletion_and_insertion_of_the_mask():
    # The object's share that is left is a straight line over its 100 pixels, then there is none of it
    left = [max(0, 1 - (600 * step // 224) / 100) for step in range(225)]
    curve = sigmoid(4 * np.array(left))
    area = (curve.sum() - curve[0] / 2 - curve[-1] / 2) / 224
    assert value("deletion", MASK) == pytest.approx(area)
    assert value("insertion", MASK, baseline="mean") == pytest.approx(
        (sigmoid(4 * (1 - np.array(left))).sum() - 0.25 - sigmoid(4) / 2) / 224
    )
    # Removed last, it is whole until 500 pixels are gone
    left = [min(1, 6 - (600 * step // 224) / 100) for step in range(225)]
    curve = sigmoid(4 * np.array(left))
    assert value("deletion", -MASK) == pytest.approx((curve.sum() - curve[0] / 2 - curve[-1] / 2) / 224)


def test_srg_of_the_mask_and_its_negative():
    # Lowest first: 20 patches of background, then four of the object; with no patch removed that is 25 points
    lowest, highest = 21 * 4 + 3 + 2 + 1, 4 + 3 + 2 + 1
    assert value("srg", MASK) == pytest.approx((lowest - highest) / 25)
    assert value("srg", -MASK) == pytest.approx((highest - lowest) / 25)


def test_road_of_the_mask_and_its_negative():
    # Of 600 pixels 100 are the object: the highest 10 % take 60 of these, the lowest 10 % none
    left = np.array([0.4] + [0] * 8), np.array([1] * 8 + [0.6])
    gap = (sigmoid(4 * left[1]) - sigmoid(4 * left[0])).mean() / 2
    assert value("road", MASK, baseline="mean") == pytest.approx(gap)
    assert value("road", -MASK, baseline="mean") == pytest.approx(-gap)


def test_drop_and_increase_of_the_mask_and_its_negative():
    assert value("average_drop", MASK) == value("average_increase", MASK) == 0
    lost = 1 - 0.5 / sigmoid(4)
    assert value("average_drop", -MASK) == value("average_drop", np.ones(SIZE)) == pytest.approx(lost)
    assert value("average_increase", -MASK, target=1) == 1


def test_saco_of_the_mask_its_negative_a_constant_and_one_pixel():
    # Groups of 60: 60 and 40 of the object are in the first two
    assert value("saco", MASK) == pytest.approx(1)
    assert value("saco", -MASK) == pytest.approx(-1)
    assert value("saco", np.full(SIZE, 0.1)) == 0
    one = np.zeros(SIZE)
    one[7, 12] = 1
    assert abs(value("saco", one)) <= 1


def test_infidelity_is_0_for_a_map_that_is_right_and_blind_to_its_scale():
    assert value("infidelity", MASK) == pytest.approx(0, abs=1e-10)
    assert value("infidelity", -3 * MASK) == pytest.approx(0, abs=1e-10)
    assert value("infidelity", 1 - MASK) > 0.1
    # With nothing to scale, it is the mean of the squared drops
    assert value("infidelity", np.zeros(SIZE)) > value("infidelity", np.ones(SIZE)) > 0.1


def test_one_pixel_first():
    one = np.zeros(SIZE)
    one[7, 12] = 1
    first, *_ = METRICS["deletion"].copies(CASE, one.astype(np.float32), "mean")
    gone = (first != CASE.pixels).any(axis=0)
    assert gone[7, 12] and gone.sum() == 600 // 224


def test_scaled_maps():
    assert np.array_equal(scaled(np.array([[-2, 0], [2, 6]], np.float32)), [[0, 0.25], [0.5, 1]])
    assert not scaled(np.full((2, 2), 0.1, np.float32)).any()


def test_pearson():
    first, second = np.random.default_rng(0).random((2, 5, 6))
    assert pearson(first, second) == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    assert pearson(first, 2 * first + 1) == pytest.approx(1) and pearson(first, -first) == pytest.approx(-1)
    assert pearson(first, np.full((5, 6), 0.1)) is None
