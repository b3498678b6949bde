"""The test of random parameters, on a small model."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from onnxplain.contract.errors import RunError
from onnxplain.contract.preprocessing import Preprocessing
from onnxplain.evaluation.samples import Sample
from onnxplain.export import Backbone, explainer_of, randomisation_test
from onnxplain.export.live import LiveArtifact
from onnxplain.export.sanity.similarity import compare
from onnxplain.export.sanity.steps import steps_of
from onnxplain.runtime import OnnxplainError
from tests.helpers.command_line import random_image
from tests.reference import variants

METHODS = ["rollout", "attnlrp", "vit_reciprocam"]
SAMPLES = [Sample(name, random_image(seed)) for seed, name in enumerate(["a", "b", "c"])]


@pytest.fixture(scope="module")
def backbone():
    model = variants.build("registers", torch.float32)
    preprocessing = Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3)
    return Backbone("small", model, preprocessing, tuple("abcde"), "softmax", "random", None)


@pytest.fixture(scope="module")
def result(backbone):
    return randomisation_test(backbone, SAMPLES, METHODS, draws=2, seed=3, data="made")


def test_the_shape_of_what_is_measured(backbone, result):
    assert result.steps == ("head", "blocks.1", "blocks.0", "embedding") and result.images == ("a", "b", "c")
    assert result.methods == tuple(METHODS) and not result.errors and not result.missing
    assert all(values.shape == (2, 4, 3) and np.isfinite(values).all() for values in result.values.values())
    explainer = explainer_of(backbone)
    assert result.targets == tuple(explainer.explain(sample.image).target for sample in SAMPLES)
    assert result.run["methods"]["rollout"]["head_fusion"] == "mean" and result.run["seed"] == 3
    # the head is behind all attention
    np.testing.assert_array_equal(result.values["rollout", "spearman"][:, 0], 1)
    assert (result.values["attnlrp", "spearman"][:, 0] < 1).all()


def test_the_last_step_is_a_model_whose_weights_are_all_random(backbone, result):
    generator = torch.Generator().manual_seed(3)
    model = copy.deepcopy(backbone.model)
    trained = explainer_of(backbone)
    with torch.no_grad():
        for step in steps_of(trained.artifact.graph):
            for path in step.parameters:
                weights = model.get_parameter(path)
                weights.copy_(
                    weights.mean() + weights.std(correction=0) * torch.randn(weights.shape, generator=generator)
                )
    assert all(
        not torch.equal(weights, model.get_parameter(path)) for path, weights in backbone.model.named_parameters()
    )
    random = explainer_of(replace(backbone, model=model))
    for column, (sample, target) in enumerate(zip(SAMPLES, result.targets, strict=True)):
        for method in METHODS:
            maps = (
                each.input_heatmap if method == "attnlrp" else each.tokens
                for each in (one.explain(sample.image, target, method) for one in (trained, random))
            )
            expected = compare(*(each.astype(float) for each in maps), relative=method == "vit_reciprocam")
            for metric, value in expected.items():
                assert result.values[method, metric][0, -1, column] == pytest.approx(value, abs=1e-4)


def test_seeds_and_draws(backbone, result):
    again, other = (randomisation_test(backbone, SAMPLES[:2], METHODS[:1], 1, seed) for seed in (3, 4))
    for key, values in again.values.items():
        np.testing.assert_array_equal(values[0], result.values[key][0, :, :2])
    last = ("rollout", "spearman")
    assert not np.array_equal(result.values[last][0, -1], result.values[last][1, -1])
    assert not np.array_equal(other.values[last], again.values[last])


def test_the_model_is_as_it_was(backbone):
    before = copy.deepcopy(backbone.model.state_dict())
    randomisation_test(backbone, SAMPLES[:1], ["rollout"], 1)
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())


def test_progress_and_default_methods(backbone):
    told = []
    found = randomisation_test(backbone, SAMPLES[:2], draws=1, progress=lambda *args: told.append(args))
    assert told[0] == ("the trained model", 0, 10) and told[-1] == ("draw 1 of 1, random down to embedding", 9, 10)
    assert "transformer_attribution" in found.methods and not {"rise", "smoothgrad"} & set(found.methods)


def test_images_that_cannot_be_explained(backbone, tmp_path):
    (tmp_path / "text.png").write_text("hello")
    samples = [Sample("text", tmp_path / "text.png"), *SAMPLES[:1]]
    found = randomisation_test(backbone, samples, ["rollout"], 1)
    assert found.images == ("a",) and list(found.errors) == ["text"] and "text.png" in found.errors["text"]
    with pytest.raises(OnnxplainError, match=r"no image can be explained: .*text\.png"):
        randomisation_test(backbone, samples[:1], ["rollout"], 1)


def test_maps_that_are_not_finite_are_left_out(backbone, monkeypatch):
    run, calls = LiveArtifact.run, []

    def fails(self, images, targets, outputs):
        calls.append(outputs)
        if len(calls) > 1 and "pixel_attnlrp" in outputs:
            raise RunError("not finite")
        return run(self, images, targets, outputs)

    monkeypatch.setattr(LiveArtifact, "run", fails)
    found = randomisation_test(backbone, SAMPLES[:1], METHODS[:2], 1)
    assert found.missing == {"attnlrp": 4} and np.isfinite(found.values["rollout", "ssim"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "`draws` must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"methods": ["rolout"]}, "rolout"),
        ({"samples": []}, "no image can be explained: there is none"),
    ],
)
def test_what_is_refused(backbone, options, message):
    with pytest.raises(OnnxplainError, match=message):
        randomisation_test(**{"backbone": backbone, "samples": SAMPLES, **options})


def test_features_have_no_classes(backbone):
    with pytest.raises(OnnxplainError, match="small has no classes to explain; give it a `head`"):
        randomisation_test(replace(backbone, pooling="cls"), SAMPLES)


def test_without_scikit_image(backbone, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.metrics", None)
    with pytest.raises(OnnxplainError, match=r"needs skimage.metrics: pip install 'onnxplain\[report\]'"):
        randomisation_test(backbone, SAMPLES)
