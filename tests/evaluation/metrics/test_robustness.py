"""Robustness, against loops over the noisy inputs."""

import numpy as np
import pytest

from onnxplain.evaluation.metrics.robustness import DRAWS, max_sensitivity, noisy, numerical_noise, rounded
from tests.helpers.judged import MEAN, STD, case, judged


def explain(pixels):
    return np.abs(pixels).sum(axis=0) ** 2


def change(first, second):
    """|a - b| / |a|, by sums in Python."""
    pairs = [(float(a), float(b)) for a, b in zip(first.ravel(), second.ravel(), strict=True)]
    return (sum((a - b) ** 2 for a, b in pairs) / sum(a * a for a, _ in pairs)) ** 0.5


def test_the_noise_is_uniform_within_two_hundredths_of_the_range():
    given = case((60, 80))
    copies = noisy(given)
    assert len(copies) == DRAWS == 10 and all(copy.dtype == np.float32 for copy in copies)
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        white, black = (1 - mean) / std, -mean / std
        added = np.stack([copy[channel] - given.pixels[channel] for copy in copies]) / (white - black)
        assert 0.0199 < np.abs(added).max() < 0.0201 and abs(added.mean()) < 1e-3
        assert added.std() == pytest.approx(0.04 / 12**0.5, rel=0.02)
    again = noisy(case((60, 80)))
    assert all((a == b).all() for a, b in zip(copies, again, strict=True))
    assert (noisy(case((60, 80), seed=1))[0] != copies[0]).any()


def test_rounding_moves_every_value_to_a_neighbour():
    given = case((60, 80))
    (copy,) = rounded(given)
    above, below = np.nextafter(given.pixels, np.float32(np.inf)), np.nextafter(given.pixels, np.float32(-np.inf))
    assert copy.dtype == np.float32 and ((copy == above) | (copy == below)).all()
    assert 0.45 < (copy == above).mean() < 0.55


@pytest.mark.parametrize(("function", "inputs"), [(max_sensitivity, noisy), (numerical_noise, rounded)])
def test_against_loops(function, inputs):
    given = case((6, 8))
    heatmap = explain(given.pixels)
    expected = max(change(heatmap, explain(copy)) for copy in inputs(given))
    assert function(judged(heatmap, maps=explain)) == pytest.approx((expected,), rel=1e-6) and expected > 0


def test_the_inputs_are_those_of_the_image_whatever_the_map():
    names, made = [], []

    def run(name, make_inputs):
        names.append(name)
        made.append(make_inputs())
        return [explain(each) for each in made[-1]]

    for heatmap in (np.ones((6, 8)), np.eye(6, 8)):
        for function in (max_sensitivity, numerical_noise):
            one = judged(heatmap)
            object.__setattr__(one, "maps", run)
            function(one)
    assert names[:2] == names[2:] and names[0] != names[1]
    for first, second in zip(made[:2], made[2:], strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("function", [max_sensitivity, numerical_noise])
def test_maps_that_do_not_change_and_maps_of_zeros(function):
    zero = np.zeros((6, 8))
    assert function(judged(np.ones((6, 8)), maps=lambda _: np.ones((6, 8)))) == (0,)
    assert function(judged(zero, maps=lambda _: zero)) == (0,)
    assert function(judged(zero, maps=explain)) is None
    assert function(judged(zero)) is None  # a method of many runs
