"""Against what Quantus 0.6 and pytorch-grad-cam 1.5 make of the same inputs: golden/removal_metrics.py.

Where their definitions differ from ours: Quantus's curves begin after the first step; its ROAD counts hits, and its
percentage is what is removed; pytorch-grad-cam's is what is kept.
"""

from pathlib import Path

import numpy as np
import pytest

from onnxplain.evaluation.metrics import noisy_linear
from onnxplain.evaluation.metrics.removal import order, remove
from onnxplain.evaluation.metrics.table import METRICS
from tests.helpers.cases import judged, make_case, measured

with np.load(Path(__file__).parents[1] / "golden" / "removal.npz") as file:
    GOLDEN = dict(file)


def linear(weight):
    return lambda pixels: pixels.reshape(len(pixels), -1) @ weight.T


@pytest.fixture
def noiseless(monkeypatch):
    monkeypatch.setattr(noisy_linear, "NOISE_SCALE", 0)


def test_pixel_flipping_of_quantus_is_the_deletion_curve():
    model, metric = linear(GOLDEN["flipped_weight"]), METRICS["deletion"]
    given = judged(metric, make_case(GOLDEN["flipped_pixels"], model), model, GOLDEN["flipped_map"], target=1)
    np.testing.assert_allclose(metric.function(given)[1:], GOLDEN["flipped_curve"], rtol=1e-5)


def test_the_imputation_of_pytorch_grad_cam(noiseless):
    heatmap = GOLDEN["imputed_map"]
    case = make_case(GOLDEN["imputed_pixels"], linear(GOLDEN["imputed_weight"]))
    ranked = order(case, heatmap, descending=True)
    for tenths, imputed in enumerate(GOLDEN["imputed"], start=1):
        where = np.zeros(heatmap.shape, bool)
        where.flat[ranked[: heatmap.size * tenths // 10]] = True
        np.testing.assert_allclose(remove(case, where, "noisy-linear"), imputed, rtol=0, atol=1e-5)


def test_the_score_of_pytorch_grad_cam(noiseless):
    model = linear(GOLDEN["imputed_weight"])
    case = make_case(GOLDEN["imputed_pixels"], model)
    found = measured(METRICS["road"], case, model, GOLDEN["imputed_map"], target=1)
    assert found == pytest.approx(float(GOLDEN["road"]), rel=1e-4)


def test_the_hits_of_quantus_are_those_of_positive_perturbation_with_the_same_baseline(noiseless):
    def model(pixels):  # one that looks at the first channel alone
        return linear(GOLDEN["hit_weight"])(pixels[:, :1])

    hits, metric = [], METRICS["perturbation_positive"]
    for pixels, heatmap, target in zip(*(GOLDEN[f"hit_{name}"] for name in ("pixels", "maps", "classes")), strict=True):
        case = make_case(np.repeat(pixels, 3, axis=0), model)
        hits.append(metric.function(judged(metric, case, model, heatmap, target, "noisy-linear"))[1:])
    np.testing.assert_allclose(np.mean(hits, axis=0), GOLDEN["hits"])
    assert np.ptp(GOLDEN["hits"]) > 0
