"""The metrics that change the input, against slow versions in float64 (tests/reference/faithfulness.py)."""

from dataclasses import replace

import numpy as np
import pytest

from onnxplain.evaluation.metrics import noisy_linear
from onnxplain.evaluation.metrics.table import METRICS
from tests.helpers.cases import judged, make_case, measured
from tests.reference import faithfulness as textbook

SIZE, PATCH = (10, 15), 5
RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.standard_normal(shape) for shape in ((8, 3 * SIZE[0] * SIZE[1]), (3, 8)))
PIXELS = RNG.standard_normal((3, *SIZE)).astype(np.float32)
HEATMAP = RNG.permutation(np.linspace(-1, 3, PIXELS[0].size, dtype=np.float32)).reshape(SIZE)
BLACK = (-0.5 / 0.5, -0.4 / 0.25, -0.6 / 0.2)  # of make_case
FILLS = {
    "black": textbook.constant_fill(BLACK),
    "mean": textbook.constant_fill((0, 0, 0)),
    "blur": textbook.blur_fill,
    "noisy-linear": textbook.linear_fill,
}


def logits(pixels):
    """Of one input, by a model that is not linear, in float64."""
    return SECOND @ np.tanh(FIRST @ pixels.astype(np.float64).ravel() / 10)


def model(pixels):
    return np.array([logits(each) for each in pixels], np.float32)


def explain(pixels):
    return np.abs(pixels).sum(axis=0) + HEATMAP


CASE = make_case(PIXELS, model, PATCH)
TARGET = int(CASE.logits.argmax())


@pytest.fixture(autouse=True)
def noiseless(monkeypatch):
    monkeypatch.setattr(noisy_linear, "NOISE_SCALE", 0)


def expected(name, baseline=None):
    metric = METRICS[name]
    given = PIXELS.astype(np.float64), HEATMAP.astype(np.float64), logits, TARGET
    fill = FILLS.get(baseline or metric.baseline or "")
    if name.startswith("perturbation"):
        return textbook.perturbation(*given, fill, name.endswith("positive"))
    if name == "srg":
        return textbook.srg(*given, fill, PATCH)
    if name == "infidelity":
        return textbook.infidelity(*given, fill, changed_places(metric, baseline))
    return getattr(textbook, name)(*given, *([fill] if fill else []))


def changed_places(metric, baseline):
    copies = metric.copies(CASE, HEATMAP, baseline or metric.baseline)
    return [[*zip(*np.nonzero((copy != PIXELS).any(axis=0)), strict=True)] for copy in copies]


@pytest.mark.parametrize(
    "name",
    (
        *("perturbation_positive", "perturbation_negative", "insertion", "deletion", "srg", "road"),
        *("average_drop", "saco", "infidelity"),
    ),
)
def test_metric(name):
    found = measured(METRICS[name], CASE, model, HEATMAP, TARGET)
    assert found == pytest.approx(expected(name), rel=1e-4, abs=1e-6)
    assert found != 0


@pytest.mark.parametrize("baseline", FILLS)
@pytest.mark.parametrize("name", ("srg", "saco"))
def test_baseline(name, baseline):
    found = measured(METRICS[name], CASE, model, HEATMAP, TARGET, baseline)
    assert found == pytest.approx(expected(name, baseline), rel=1e-4)


def test_average_increase_is_whether_there_is_no_drop():
    for target in range(3):
        drop, increase = (
            measured(METRICS[f"average_{name}"], CASE, model, HEATMAP, target) for name in ("drop", "increase")
        )
        assert increase == (drop == 0)


def test_adcc():
    metric = METRICS["adcc"]
    given = replace(judged(metric, CASE, model, HEATMAP, TARGET), own_maps=lambda inputs: [explain(x) for x in inputs])
    found = metric.value(metric.function(given))
    assert found == pytest.approx(
        textbook.adcc(PIXELS.astype(float), HEATMAP.astype(float), logits, TARGET, explain), rel=1e-4
    )


def test_adcc_of_many_maps_is_made_of_means():
    parts = np.array([[0.1, 0.9, 0.3], [0.5, 0.7, 0.1]])
    together = 3 / (1 / 0.8 + 1 / (1 - 0.2) + 1 / (1 - 0.3))
    assert METRICS["adcc"].combine(parts.mean(axis=0)) == pytest.approx(together)
    apart = METRICS["adcc"].combine(parts)
    assert apart.shape == (2,) and apart.mean() != pytest.approx(together)


def test_adcc_is_0_where_one_of_the_three_is():
    assert METRICS["adcc"].value([1, 0.5, 0.5]) == METRICS["adcc"].value([0.5, 0, 1]) == 0


def test_adcc_does_not_apply_to_methods_of_many_runs():
    metric = METRICS["adcc"]
    assert metric.function(judged(metric, CASE, model, HEATMAP, TARGET)) is None


@pytest.mark.parametrize("name", ("insertion", "deletion"))
def test_areas_are_those_of_the_mean_curve(name):
    metric = METRICS[name]
    curves = np.random.default_rng(1).random((4, 225))
    assert metric.combine(curves.mean(axis=0)) == pytest.approx(np.mean([metric.value(curve) for curve in curves]))
    assert len(metric.curve) == 225 and metric.curve[0] == 0 and metric.curve[-1] == 1


def test_squares_of_infidelity_are_squares_drawn_afresh_for_each_image():
    metric = METRICS["infidelity"]
    for places in (first := changed_places(metric, "black")):
        rows, columns = zip(*places, strict=True)
        side = max(rows) - min(rows) + 1
        assert side == max(columns) - min(columns) + 1 and len(places) == side**2 and side <= round(10 * 10 / 28)
    assert first == changed_places(metric, "black") and len({len(places) for places in first}) == 4
    other = replace(CASE, seed=1)
    again = [(copy != PIXELS).any(axis=0).sum() for copy in metric.copies(other, HEATMAP, "black")]
    assert again != [len(places) for places in first]


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.copies])
def test_copies_are_inputs_of_their_own(name):
    metric = METRICS[name]
    before = PIXELS.copy()
    copies = [*metric.copies(CASE, HEATMAP, metric.baseline or "")]
    assert {(copy.shape, copy.dtype) for copy in copies} == {(PIXELS.shape, np.dtype(np.float32))}
    assert not any(np.shares_memory(copy, each) for copy, each in zip(copies, (PIXELS, *copies), strict=False))
    assert np.array_equal(PIXELS, before)
