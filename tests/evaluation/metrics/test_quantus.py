"""Against what Quantus 0.6 made of the same maps: golden/quantus_metrics.py.

Its definitions are ours but for: 1e-7 that it adds to every value before it sorts (sparseness), 1e-12 in the logarithm
(complexity), negative values, which it divides by as they are (mass), and equal values (rank).
"""

from pathlib import Path

import numpy as np
import pytest

from onnxplain.evaluation.metrics.form import complexity, sparseness
from onnxplain.evaluation.metrics.localisation import mass, rank
from onnxplain.evaluation.metrics.robustness import max_sensitivity
from tests.helpers.judged import judged

with np.load(Path(__file__).parents[1] / "golden" / "quantus.npz") as file:
    GOLDEN = dict(file)


@pytest.mark.parametrize("function", [sparseness, complexity, mass, rank], ids=lambda function: function.__name__)
def test_maps_and_masks(function):
    found = [function(judged(heatmap, mask))[0] for heatmap, mask in zip(GOLDEN["maps"], GOLDEN["masks"], strict=True)]
    np.testing.assert_allclose(found, GOLDEN[function.__name__], rtol=1e-6)
    assert np.ptp(found) > 0


def test_max_sensitivity():
    maps = iter(GOLDEN["noisy_maps"])
    found = max_sensitivity(judged(GOLDEN["clear_map"], maps=lambda _: next(maps)))
    np.testing.assert_allclose(found, GOLDEN["max_sensitivity"], rtol=1e-5)
    assert next(maps, None) is None
