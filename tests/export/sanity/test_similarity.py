"""What is compared of two maps, against hand-made cases and other libraries."""

import numpy as np
import pytest
import scipy.stats
from skimage.metrics import structural_similarity

from onnxplain.export.sanity.similarity import compare, entropy, ssim

RNG = np.random.default_rng(0)
MAP, OTHER = RNG.normal(size=(12, 14)), RNG.normal(size=(12, 14))
FLAT = np.full((12, 14), 3.0)


def test_values_by_hand():
    # ranks 1 2 3 4 against 1 2 4 3: 1 - 6 (0 + 0 + 1 + 1) / (4 (16 - 1)) = 0.8; of absolute values 4 3 1 2 and 3 2 1 4
    one, two = np.array([[-4.0, -3.0], [1.0, 2.0]]), np.array([[-3.0, -2.0], [5.0, -1.0]])
    found = compare(one, two, relative=False)
    assert found["spearman"] == pytest.approx(0.8)
    # |one| ranks 4 3 1 2, |two| ranks 3 2 4 1: squares of differences 1 1 9 1
    assert found["spearman_absolute"] == pytest.approx(1 - 6 * 12 / 60)
    assert found["emprt"] == 0


def test_maps_without_zero_are_taken_from_their_least_value():
    found = compare(MAP - 5, OTHER + 5, relative=True)
    assert found["spearman_absolute"] == pytest.approx(found["spearman"])
    assert found["ssim"] == pytest.approx(ssim(MAP, OTHER))
    signed = compare(MAP, OTHER, relative=False)
    assert signed["spearman_absolute"] == pytest.approx(scipy.stats.spearmanr(abs(MAP).ravel(), abs(OTHER).ravel())[0])
    assert signed["ssim"] == pytest.approx(ssim(abs(MAP), abs(OTHER))) and signed["ssim"] != pytest.approx(
        found["ssim"]
    )


def test_the_same_map_and_its_negative():
    same, negative = compare(MAP, 2 * MAP, relative=False), compare(MAP, -MAP, relative=False)
    for metric in ("spearman", "spearman_absolute", "ssim"):
        assert same[metric] == pytest.approx(1)
        assert negative[metric] == pytest.approx(-1 if metric == "spearman" else 1)
    assert same["emprt"] == 0


def test_constant_maps():
    one, both = compare(MAP, FLAT, relative=False), compare(FLAT, 2 * FLAT, relative=False)
    assert one["spearman"] == one["spearman_absolute"] == 0 and one["emprt"] == -1
    assert -0.1 < one["ssim"] < 0.1
    assert both["spearman"] == both["ssim"] == 1 and np.isnan(both["emprt"])


def test_ssim_is_that_of_scaled_maps():
    first, second = ((each - each.min()) / (each.max() - each.min()) for each in (MAP, OTHER))
    assert ssim(MAP, OTHER) == pytest.approx(
        structural_similarity(first, second, data_range=1, use_sample_covariance=False)
    )
    window = first[:7, :7], second[:7, :7]  # a map of one window: the formula of Wang et al.
    a, b = ((each - each.min()) / np.ptp(each) for each in window)
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    top = (2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
    bottom = (a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (a.var() + b.var() + 9e-4)
    assert ssim(*window) == pytest.approx(top / bottom)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (6, 4), (7, 30)])
def test_small_maps(shape):
    one = RNG.normal(size=shape)
    assert ssim(one, one) == pytest.approx(1) and -1 <= ssim(one, RNG.normal(size=shape)) < 1


@pytest.mark.parametrize("values", [MAP, np.exp(3 * MAP), np.maximum(MAP, 0)])
def test_entropy_is_that_of_scipy(values):
    assert entropy(values) == pytest.approx(scipy.stats.entropy(np.histogram(values, bins=100)[0]))


def test_entropy_by_hand():
    assert entropy(FLAT) == 0
    assert entropy(np.array([[0.0, 0.0], [1.0, 1.0]])) == pytest.approx(np.log(2))
    assert entropy(np.arange(100.0)) == pytest.approx(np.log(100))
