"""Segmentation, against loops over pixels, scikit-learn, and cases done by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from onnxplain.evaluation.metrics.segmentation import ROWS, average_precision
from tests.helpers.judged import judged

METRICS = {row.name: row for row in ROWS}
OBJECT = np.zeros((6, 8), np.uint8)
OBJECT[1:4, 2:5] = 1


def values(heatmap, mask=OBJECT):
    return {name: row.value(row.function(judged(heatmap, mask))) for name, row in METRICS.items()}


ONE_PIXEL = np.zeros((6, 8))
ONE_PIXEL[2, 3] = 1
CASES = {
    "mask": (OBJECT, 1, 1, 1),
    "negative": (-1.0 * OBJECT, 0, 0, 0),
    "constant": (np.full((6, 8), 0.1), 39 / 48, 39 / 48 / 2, 0),  # all is background
    "zero": (np.zeros((6, 8)), 39 / 48, 39 / 48 / 2, 0),
    "one pixel": (ONE_PIXEL, 40 / 48, (39 / 47 + 1 / 9) / 2, 2 / 10),
}


@pytest.mark.parametrize("name", CASES)
def test_cases_done_by_hand(name):
    heatmap, accuracy, iou, f1 = CASES[name]
    found = values(heatmap)
    assert [found[key] for key in ("pixel_accuracy", "miou", "f1")] == pytest.approx([accuracy, iou, f1])


def test_average_precision_of_cases_done_by_hand():
    # Of 96 pixels in one ranking, 48 are wanted: where one of a pair is, the other is not.
    expected = {"mask": 1, "negative": 0.5, "constant": 0.5, "zero": 0.5}
    assert {name: values(CASES[name][0])["map"] for name in expected} == pytest.approx(expected)
    # First 48 of score 1, of which 40 are wanted, then 48 of score 0 with the other 8.
    assert values(ONE_PIXEL)["map"] == pytest.approx(40 / 48 * 40 / 48 + 8 / 48 * 48 / 96)


@pytest.mark.parametrize("levels", [None, 4], ids=["all different", "many equal"])
@pytest.mark.parametrize("seed", range(4))
def test_against_scikit_learn_with_ignored_pixels(seed, levels):
    rng = np.random.default_rng(seed)
    heatmap = rng.normal(size=(9, 7)) if levels is None else rng.integers(0, levels, (9, 7)).astype(float)
    heatmap = heatmap.astype(np.float32).astype(np.float64)
    mask = rng.choice(np.array([0, 1, 255], np.uint8), (9, 7), p=(0.6, 0.3, 0.1))
    found, known = values(heatmap, mask), mask != 255
    foreground, wanted = (heatmap > heatmap.mean())[known], mask[known]
    scaled = ((heatmap - heatmap.min()) / (heatmap.max() - heatmap.min()))[known]
    expected = {
        "pixel_accuracy": np.mean([int(ours) == int(theirs) for ours, theirs in zip(foreground, wanted, strict=True)]),
        "miou": jaccard_score(wanted, foreground, average="macro"),
        "map": average_precision_score(np.concatenate([1 - wanted, wanted]), np.concatenate([1 - scaled, scaled])),
        "f1": f1_score(wanted, foreground),
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_values_of_many_images_are_ratios_of_sums():
    rng = np.random.default_rng(0)
    maps, masks = rng.normal(size=(3, 6, 8)), rng.integers(0, 2, (3, 6, 8))
    masks[1, 2:] = 255
    known = masks != 255
    foreground = np.stack([each > each.astype(np.float32).mean() for each in maps])[known]
    expected = {
        "pixel_accuracy": (foreground == masks[known]).mean(),
        "miou": jaccard_score(masks[known], foreground, average="macro"),
    }
    for name, value in expected.items():
        row = METRICS[name]
        parts = np.array([row.function(judged(*pair)) for pair in zip(maps, masks, strict=True)])
        assert float(row.combine(parts.mean(axis=0))) == pytest.approx(value)
        assert row.combine(parts).shape == (3,)


def test_a_class_that_is_nowhere_does_not_count():
    everything = np.ones((6, 8), np.uint8)
    everything[0] = 255
    heatmap = np.ones((6, 8))
    heatmap[0] = 0
    assert values(heatmap, everything)["miou"] == 1


def test_a_constant_map_is_all_background_whatever_its_value():
    for value in np.random.default_rng(0).normal(size=50):
        assert values(np.full((6, 8), value))["f1"] == 0


def test_average_precision_does_not_overflow():
    huge = np.where(OBJECT, np.finfo(np.float32).max, np.finfo(np.float32).min)
    assert average_precision(judged(huge, OBJECT)) == (1.0,)


@pytest.mark.parametrize("mask", [None, np.zeros((6, 8))], ids=["unknown", "elsewhere"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_without_an_object_there_is_no_value(row, mask):
    assert row.function(judged(OBJECT, mask)) is None and row.needs == {"mask"}
