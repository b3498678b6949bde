"""Every method through the Explainer: one run for several classes and pictures, and where the maps are placed."""

import numpy as np
import pytest

from onnxplain.runtime import METHODS, Explainer
from tests.helpers.command_line import random_image
from tests.helpers.spy import Spy, assert_same
from tests.helpers.tiny_artifact import GRID, LABELS, LAYERS, SIZE, build
from tests.reference import maps

ONE_RUN = [name for name, method in METHODS.items() if method.runs is None]
RAW = {  # what of the raw outputs each method's reference takes
    "transformer_attribution": (maps.transformer_attribution, ("attention_gradient", "relevance"), {}),
    "grad_rollout": (maps.grad_rollout, ("attention", "attention_gradient"), {"discard_ratio": 0.4}),
    "generic_attention": (maps.generic_attention, ("attention", "attention_gradient"), {"start_layer": 1}),
    "gmar": (maps.gmar, ("attention", "attention_gradient"), {"norm": "l2"}),
    "attention_gradcam": (maps.attention_gradcam, ("attention", "attention_gradient"), {}),
    "rollout": (maps.rollout, ("attention",), {"head_fusion": "max"}),
    "attention_flow": (maps.attention_flow, ("attention",), {}),
    "raw_attention": (maps.raw_attention, ("attention",), {"layer": 0}),
    "relevance_rollout": (maps.relevance_rollout, ("relevance",), {}),
    "last_layer": (maps.last_layer, ("relevance",), {"layer": -2}),
}  # fmt: skip


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    pytest.importorskip("scipy")
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), device="cpu", threads=1)


@pytest.mark.parametrize("name", METHODS)
def test_classes_and_batches(name, explainer):
    """Three pictures and three classes at once give what each picture and class alone gives."""
    pictures = [random_image(seed, 30 + 4 * seed, 50 - seed) for seed in range(3)]
    targets = [4, -1, "tiger cat"]
    together = list(explainer.explain_many(pictures, targets, name, batch_size=3))
    for picture, row in zip(pictures, together, strict=True):
        assert len(row) == 3
        for target, item in zip(targets, row, strict=True):
            assert_same(item, explainer.explain(picture, target, name))
            assert item.heatmap.shape == (picture.height, picture.width) and item.tokens.shape == GRID
            assert item.heatmap.dtype == item.tokens.dtype == np.float32
            assert np.ptp(item.tokens) > 0 and np.isfinite(item.heatmap).all()
        assert not np.shares_memory(row[0].heatmap, row[1].heatmap)
        assert not np.shares_memory(row[0].tokens, row[1].tokens)
        assert np.array_equal(row[0].tokens, row[2].tokens) != METHODS[name].per_target
    assert not np.allclose(together[0][0].tokens, together[1][0].tokens)


@pytest.mark.parametrize("name", RAW)
def test_tokens_are_those_of_the_raw_tensors(name, explainer):
    reference, outputs, parameters = RAW[name]
    picture, layout = random_image(2), explainer.metadata.layout
    tensors = explainer.tensors(picture, [1, -2])
    results = explainer.explain(picture, [1, -2], name, **parameters)
    for column, result in enumerate(results):
        raw = [tensors[item][0] if item == "attention" else tensors[item][0, column] for item in outputs]
        place = (layout.readout_row(), layout.prefix_tokens, layout.patch_grid)
        np.testing.assert_allclose(result.tokens, reference(*raw, *place, **parameters), rtol=1e-4, atol=1e-5)


def test_legrad_of_the_raw_tensors(explainer):
    raw = explainer.tensors(random_image(2), 3, ["layer_gradient"])["layer_gradient"][0, 0].astype(np.float64)
    for layers in (0, 1):
        means = np.where(raw > 0, raw, 0)[LAYERS - (layers or LAYERS) :].mean((1, 2)).sum(0)
        result = explainer.explain(random_image(2), 3, "legrad", layers=layers)
        np.testing.assert_allclose(result.tokens.ravel(), means[1:], rtol=1e-5)


def test_pixel_maps_keep_every_pixel(explainer):
    """On the model's own raster the heatmap is the map, and tokens are the sums over 8 x 8 pixels."""
    pixels = np.random.default_rng(0).normal(size=(2, 3, *SIZE)).astype(np.float32)
    run = explainer._artifact.run
    values = run(pixels, [5], ["pixel_gradient", "pixel_relevance", "pixel_attnlrp", "pixel_cp_lrp"])
    expected = {
        "gradient": values["pixel_gradient"][:, 0].sum(1),
        "input_x_gradient": (values["pixel_gradient"][:, 0] * pixels).sum(1),
        "full": values["pixel_relevance"][:, 0],
        "attnlrp": values["pixel_attnlrp"][:, 0],
        "cp_lrp": values["pixel_cp_lrp"][:, 0],
    }
    for name, heatmaps in expected.items():
        for result, heatmap in zip(explainer.explain_pixels(pixels, 5, name), heatmaps, strict=True):
            np.testing.assert_allclose(result.heatmap, heatmap, rtol=1e-5, atol=1e-6)
            sums = heatmap.reshape(GRID[0], 8, GRID[1], 8).sum((1, 3))
            np.testing.assert_allclose(result.tokens, sums, rtol=1e-4, atol=1e-4)


def test_what_was_cropped_away_is_no_evidence_and_least_where_there_is_no_zero(explainer):
    picture = random_image(0, 100, 20)  # much wider than 2 : 3, so that both sides are cropped away
    [index] = {int(np.argmin(explainer.tensors(picture, passes=[])["logits"]))}
    for name in ONE_RUN:
        result = explainer.explain(picture, index % len(LABELS), name)
        outside = result.heatmap[:, [0, -1]]
        assert result.relative == (name == "vit_reciprocam") and result.pixel_level == METHODS[name].pixel_level
        np.testing.assert_array_equal(outside, result.heatmap.min() if result.relative else 0)


def test_explain_all_is_one_run_and_those_of_the_sampled_methods(explainer, monkeypatch):
    spy = Spy(explainer._artifact._session)
    monkeypatch.setattr(explainer._artifact, "_session", spy)
    answers = list(explainer.explain_all_many([random_image(0), random_image(1)], [0, -1], batch_size=2))
    wide = [outputs for outputs, _, _ in spy.runs if len(outputs) > 3]
    assert len(wide) == 1 and len(wide[0]) == len(set(wide[0]))
    for picture, answer in zip((random_image(0), random_image(1)), answers, strict=True):
        assert list(answer) == list(METHODS)
        for name in METHODS:
            for item, other in zip(answer[name], explainer.explain(picture, [0, -1], name), strict=True):
                assert_same(item, other)
    assert len({id(item.predictions) for items in answers[0].values() for item in items}) == 1
