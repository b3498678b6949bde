"""Methods of many runs against slow loops with the same random numbers; and how those runs are made."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime import METHODS, Explainer, OnnxplainError, batch_size
from onnxplain.runtime.batch_size import images_per_run
from onnxplain.runtime.images.geometry import resize
from onnxplain.runtime.images.preprocessing import normalize
from tests.helpers.command_line import random_image
from tests.helpers.spy import Spy, assert_same
from tests.helpers.tiny_artifact import GRID, LABELS, LAYERS, SIZE, build

SAMPLED = [name for name, method in METHODS.items() if method.runs]
BIG = (160, 288)
BLACK = np.array([-2.0, -1.5, -1.0])[:, None, None]
T = 2


class Model:
    """A differentiable function of pixels for T classes, as an Evaluator: w_t . sin(x) / 100; notes its inputs."""

    def __init__(self, size=BIG):
        self.weights = np.random.default_rng(5).normal(size=(T, 3, *size))
        self.black, self.inputs = BLACK.astype(np.float32), []

    def gradient(self, x):
        return self.weights * np.cos(x) / 100

    def probability(self, x):
        return 1 / (1 + np.exp(-(self.weights * np.sin(x)).sum((1, 2, 3)) / 100))

    def gradients(self, inputs):
        for x in inputs:
            self.inputs.append(x)
            yield self.gradient(x)

    def probabilities(self, inputs):
        for x in inputs:
            self.inputs.append(x)
            yield self.probability(x)


def _pixels(size=BIG, seed=0):
    return np.random.default_rng(seed).normal(size=(3, *size)).astype(np.float32)


def _sampled(name, pixels, model, **parameters):
    method = METHODS[name]
    _, rest = method.bind(method.arguments(parameters, LAYERS))
    given = method.function(pixels, model, **rest)
    assert given.shape == (T, *pixels.shape[1:]) and given.dtype == np.float64
    assert len(model.inputs) == rest[method.runs]
    return given


@pytest.mark.parametrize("baseline", ["black", "mean"])
def test_integrated_gradients(baseline):
    pixels, model, steps = _pixels(), Model(), 5
    start = np.broadcast_to(BLACK if baseline == "black" else 0.0, pixels.shape)
    expected = np.zeros((T, *BIG))
    for step in range(steps):
        share = (step + 0.5) / steps
        for t in range(T):
            expected[t] += ((pixels - start) * model.gradient(start + share * (pixels - start))[t]).sum(0) / steps
    given = _sampled("integrated_gradients", pixels, model, steps=steps, baseline=baseline)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-8)


def test_integrated_gradients_are_complete():
    """They add up to the difference of the scores of picture and baseline, all the better for more steps."""
    pixels, model = _pixels(), Model()
    difference = [(weights * (np.sin(pixels) - np.sin(BLACK))).sum() / 100 for weights in model.weights]
    errors = [
        np.abs(_sampled("integrated_gradients", pixels, Model(), steps=steps).sum((1, 2)) - difference).max()
        for steps in (4, 64)
    ]
    assert errors[1] < errors[0] / 100 and errors[1] < 1e-3


@pytest.mark.parametrize(("noise", "seed"), [(0.15, 0), (0.5, 3), (0.0, 1)])
def test_smoothgrad(noise, seed):
    pixels, model, samples = _pixels(), Model(), 4
    rng, expected = np.random.default_rng(seed), np.zeros((T, *BIG))
    sigma = noise * (pixels.max() - pixels.min())
    for _ in range(samples):
        noisy = pixels + sigma * rng.standard_normal(pixels.shape)
        expected += model.gradient(noisy).sum(1) / samples
    given = _sampled("smoothgrad", pixels, model, samples=samples, noise=noise, seed=seed)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-8)
    if noise == 0:
        np.testing.assert_allclose(given, model.gradient(pixels.astype(np.float64)).sum(1), atol=1e-12)


def _bilinear(grid, y, x):
    """The value of a grid at a point in its own units, cell centres at halves; the border's value beyond them."""
    y, x = (np.clip(v - 0.5, 0, length - 1) for v, length in zip((y, x), grid.shape, strict=True))
    top, left = int(y), int(x)
    bottom, right = min(top + 1, grid.shape[0] - 1), min(left + 1, grid.shape[1] - 1)
    upper = grid[top, left] * (1 - (x - left)) + grid[top, right] * (x - left)
    lower = grid[bottom, left] * (1 - (x - left)) + grid[bottom, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


@pytest.mark.parametrize(
    ("size", "cells", "probability", "seed"), [((8, 12), 3, 0.5, 0), ((7, 10), 4, 0.3, 2), ((5, 9), 1, 1.0, 0)]
)
def test_rise(size, cells, probability, seed):
    pixels, model, masks = _pixels(size), Model(size), 6
    rng, expected = np.random.default_rng(seed), np.zeros((T, *size))
    mean, std = -BLACK, 1.0  # black is -mean / std: the same with std 1
    for _ in range(masks):
        grid = np.where(rng.random((cells, cells)) < probability, 1.0, 0.0)
        cell = [int(np.ceil(length / cells)) for length in size]
        offset = [int(rng.integers(0, length)) for length in cell]
        mask, scale = np.empty(size), [cells / ((cells + 1) * length) for length in cell]
        for y, x in np.ndindex(*size):
            mask[y, x] = _bilinear(grid, (y + offset[0] + 0.5) * scale[0], (x + offset[1] + 0.5) * scale[1])
        picture = pixels * std + mean
        probabilities = model.probability((picture * mask - mean) / std)
        for t in range(T):
            expected[t] += probabilities[t] * mask / (masks * probability)
    given = _sampled("rise", pixels, model, masks=masks, cells=cells, probability=probability, seed=seed)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-8)


def test_masks_cover_an_image_that_is_not_square_evenly():
    model = SimpleNamespace(black=np.zeros((3, 1, 1)), probabilities=lambda inputs: (np.ones(1) for _ in inputs))
    [mean] = METHODS["rise"].function(_pixels(), model, masks=300, cells=7, probability=0.5, seed=0)
    assert mean.shape == BIG and abs(mean.mean() - 1) < 0.05 and mean.min() > 0.7 and mean.max() < 1.3


# --- through an artifact


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), device="cpu", threads=1)


def _input(explainer, picture):
    return normalize(np.asarray(picture), explainer.metadata.preprocessing).astype(np.float64)


def _gradient(explainer, pixels, index):
    values = explainer._artifact.run(pixels[None].astype(np.float32), [index], ["pixel_gradient"])
    return values["pixel_gradient"][0, 0].astype(np.float64)


def test_the_runs_are_those_of_the_artifact(explainer):
    """On the model's own raster, with ranks, which are resolved on the picture itself."""
    picture = random_image(3, SIZE[1], SIZE[0])
    pixels = _input(explainer, picture)
    arguments = {"pixels": pixels[None].astype(np.float32), "target": [1, -2]}
    index = explainer.explain_pixels(**arguments, method="rollout")[0][1].target

    results = explainer.explain_pixels(**arguments, method="integrated_gradients", steps=3)[0]
    start = np.full((3, 1, 1), -2.0)  # mean 0.5, std 0.25
    for result, target in zip(results, (1, index), strict=True):
        gradients = [_gradient(explainer, start + (k + 0.5) / 3 * (pixels - start), target) for k in range(3)]
        expected = ((pixels - start) * np.mean(gradients, 0)).sum(0)
        np.testing.assert_allclose(result.heatmap, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(result.tokens, expected.reshape(2, 8, 3, 8).sum((1, 3)), rtol=1e-4, atol=1e-4)
        assert result.target == target and result.pixel_level and result.tokens.shape == GRID

    results = explainer.explain_pixels(**arguments, method="rise", masks=20, cells=2, seed=4)[0]
    rng, expected = np.random.default_rng(4), np.zeros((len(LABELS), *SIZE))
    for _ in range(20):
        grid = (rng.random((2, 2)) < 0.5).astype(np.float64)
        top, left = rng.integers(0, 8), rng.integers(0, 12)
        mask = resize(grid, (24, 36))[top : top + 16, left : left + 24]
        masked = ((pixels * 0.25 + 0.5) * mask - 0.5) / 0.25
        logits = explainer._artifact.run(masked[None].astype(np.float32), [0], [])["logits"][0].astype(np.float64)
        expected += (np.exp(logits) / np.exp(logits).sum())[:, None, None] * mask / 10
    for result, target in zip(results, (1, index), strict=True):
        np.testing.assert_allclose(result.heatmap, expected[target], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLED)
def test_runs_go_in_batches_and_share_targets(name, explainer, monkeypatch):
    picture = random_image(1)
    expected = explainer.explain(picture, [0, -1], name)
    spy = Spy(explainer._artifact._session)
    monkeypatch.setattr(explainer._artifact, "_session", spy)
    told = []
    given = explainer.explain(picture, [0, -1], name, progress=lambda *numbers: told.append(numbers))
    for item, other in zip(given, expected, strict=True):
        np.testing.assert_array_equal(item.heatmap, other.heatmap)
    total = METHODS[name].arguments({}, LAYERS)[METHODS[name].runs]
    sizes = [len(feeds["pixels"]) for _, feeds, _ in spy.runs]
    assert sizes[0] == 1 and sum(sizes[1:]) == total and set(sizes[1:-1]) == {batch_size.MAX_BATCH}
    assert spy.runs[0][0] == [*ALWAYS]
    assert {tuple(outputs) for outputs, _, _ in spy.runs[1:]} == {(*ALWAYS, *METHODS[name].outputs)}
    assert all(feeds["target"].tolist()[0] == [0, given[1].target] for _, feeds, _ in spy.runs[1:])
    assert told == [(min(done, total), total) for done in range(8, total + 8, 8)]

    monkeypatch.setattr(batch_size, "MAX_BATCH", 3)
    for item, other in zip(explainer.explain(picture, [0, -1], name), expected, strict=True):
        assert_same(item, other)
    assert_same(explainer.explain(picture, 0, name), expected[0])


@pytest.mark.parametrize("name", SAMPLED)
def test_seeds_and_numbers_of_runs_matter(name, explainer):
    runs = METHODS[name].runs
    plain = explainer.explain(random_image(0), 2, name, **{runs: 4})
    np.testing.assert_array_equal(plain.heatmap, explainer.explain(random_image(0), 2, name, **{runs: 4}).heatmap)
    assert not np.allclose(plain.tokens, explainer.explain(random_image(0), 2, name, **{runs: 5}).tokens)
    if "seed" in METHODS[name].arguments({}, LAYERS):
        assert not np.allclose(plain.tokens, explainer.explain(random_image(0), 2, name, **{runs: 4, "seed": 1}).tokens)


def test_progress_counts_all_methods_of_an_image_together(explainer):
    told = []
    explainer.explain_all_many([random_image(0), random_image(1)], 2, progress=lambda *numbers: told.append(numbers))
    assert told == []  # nothing has run yet
    list(
        explainer.explain_all_many(
            [random_image(0), random_image(1)], 2, progress=lambda *numbers: told.append(numbers)
        )
    )
    total = 32 + 25 + 1000
    assert {number for _, number in told} == {total} and [done for done, _ in told].count(total) == 2
    assert told[: len(told) // 2] == told[len(told) // 2 :]
    told.clear()
    explainer.explain(random_image(0), 2, "rollout", progress=lambda *numbers: told.append(numbers))
    assert told == []


def test_parameters_are_checked_before_any_run(explainer):
    for name, parameters, message in (
        ("rise", {"masks": 0}, "`masks` must be"),
        ("smoothgrad", {"noise": -1.0}, "`noise` must be"),
        ("integrated_gradients", {"x": 1}, "has no parameter `x`"),
    ):
        with pytest.raises(OnnxplainError, match=message):
            explainer.explain_many(iter([]), 0, name, **parameters)


def test_batches_shrink_as_an_image_needs_more_memory(explainer):
    def fits(tokens, outputs, targets=1, device="cuda", heads=12, hidden=None, **plain):
        wide = dataclasses.replace(explainer.metadata.preprocessing, size=(1, tokens - 1))
        grid = {"preprocessing": wide, "patch_grid": wide.size}
        metadata = dataclasses.replace(explainer.metadata, **grid, layers=12, heads=heads, **plain)
        metadata = dataclasses.replace(metadata, token_width=64 * heads, hidden_width=hidden or 256 * heads)
        return images_per_run(SimpleNamespace(metadata=metadata, device=device), outputs, targets)

    rollout, attribution = ["attention_mean"], ["gradient_relevance_positive"]
    assert fits(197, []) == fits(197, rollout) == fits(197, attribution) == fits(1370, rollout) == batch_size.MAX_BATCH
    assert fits(197, attribution, 1000) == fits(1370, attribution) == 1
    assert 1 < fits(500, attribution) < batch_size.MAX_BATCH
    assert 1 < fits(197, ["reciprocam"]) < batch_size.MAX_BATCH
    # a plain artifact holds what its maps are made of, without flags of all
    heatmaps = {"rollout": {"head_fusion": "mean"}, "transformer_attribution": {"start_layer": 0}}
    both = ["heatmap_rollout", "heatmap_transformer_attribution"]
    for flags in ("required", "none"):
        assert fits(700, both, heatmaps=heatmaps, flags=flags) == fits(700, [*rollout, *attribution])
    assert fits(700, both[:1], 10, heatmaps=heatmaps, flags="required") == fits(700, rollout, 10) > 1
    assert fits(700, both[:1], 10, heatmaps=heatmaps, flags="none") == fits(700, [*rollout, *attribution], 10) == 1
    # a CPU's cache: ViT-Ti, S, B, and B with more classes
    assert [fits(197, attribution, 1, "cpu", heads) for heads in (3, 6, 12)] == [8, 4, 2]
    assert fits(197, attribution, 1, "cpu", 6, hidden=4 * 1536) == 1  # wider hidden layers
    assert fits(197, attribution, 10, "cpu") == fits(1370, [], 1, "cpu") == 1
    assert fits(197, rollout, 10, "cpu") == fits(197, [], 10, "cpu") == 2
