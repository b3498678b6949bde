"""Positive and negative perturbation: cases computed by hand."""

import numpy as np
import pytest

from onnxplain.evaluation.metrics.faithfulness import ROWS
from tests.helpers.cases import make_case, measured

METRICS = {row.name: row for row in ROWS}
POSITIVE, NEGATIVE = METRICS["perturbation_positive"], METRICS["perturbation_negative"]
MASK = np.zeros((10, 10), np.float32)
MASK[:5, :5] = 1  # 25 pixels
BLACK = -0.5 / 0.5  # the mean and deviation of cases, red


def sees_object(pixels):
    """Class 0 leads while more than half of the object's pixels are as they were, 1."""
    left = (pixels[:, 0] * MASK).sum((1, 2)) - BLACK * MASK.sum()
    half = (1 - BLACK) * MASK.sum() / 2
    return np.stack([left, np.full(len(pixels), half)], 1).astype(np.float32)


CASE = make_case(np.ones((3, 10, 10), np.float32), sees_object)


def test_the_mask_itself_is_removed_first():
    # 20 of the 25 pixels are gone at 20 %: hits 1, 1, 0, …
    assert measured(POSITIVE, CASE, sees_object, MASK) == pytest.approx(100 * (0.1 + 0.05))
    # Of the 75 others all are gone at 70 %, of the object's 15 of 25 remain at 80 % … 15 > 12.5, 10 at 90 %
    assert measured(NEGATIVE, CASE, sees_object, MASK) == pytest.approx(100 * (0.8 + 0.05))


def test_the_negative_of_a_map_changes_the_places_of_the_two():
    assert measured(POSITIVE, CASE, sees_object, -MASK) == pytest.approx(85)
    assert measured(NEGATIVE, CASE, sees_object, -MASK) == pytest.approx(15)


def test_another_class_has_the_hits_that_this_one_misses():
    assert measured(POSITIVE, CASE, sees_object, MASK, target=1) == pytest.approx(90 - 15)
