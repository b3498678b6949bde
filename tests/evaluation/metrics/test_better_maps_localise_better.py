"""On 50 demo scenes: the mask of a digit is a better map than its blur, that than noise, that than the blur's negative.

The negative is that of the blur: for the negative of a binary mask the average precision is 0.5, as for noise, since
its ranking has two steps only.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from onnxplain.demo.scenes import DIGITS
from onnxplain.evaluation.data.opening import open_data
from onnxplain.evaluation.metrics import localisation, segmentation
from tests.helpers.judged import judged

SIZE = 96, 96


@pytest.fixture(scope="module")
def maps_and_masks():
    rng = np.random.default_rng(0)
    found = []
    for sample in open_data("demo", DIGITS, limit=50):
        for region in sample.regions.values():
            mask = region.mask(SIZE)
            blurred = gaussian_filter(mask.astype(np.float64), 8)
            found.append((mask, (mask, blurred, rng.random(SIZE), -blurred)))
    return found


@pytest.mark.parametrize("row", (*localisation.ROWS, *segmentation.ROWS), ids=lambda row: row.name)
def test_order_of_maps(row, maps_and_masks):
    parts = np.array([[row.function(judged(each, mask)) for each in maps] for mask, maps in maps_and_masks])
    exact, blurred, noise, negative = row.combine(parts.mean(axis=0))
    # Where the maximum of the mask or its blur is, is the same question.
    assert (exact >= blurred if row.name == "pointing_game" else exact > blurred) and blurred > noise > negative
    # For each single digit the mask is a perfect map.
    assert np.allclose(row.combine(parts[:, 0]), 1) and len(parts) > 100
