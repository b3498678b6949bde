"""Many targets go through the graph in parts, and the outputs are those of one run."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime import Explainer
from onnxplain.runtime.backends.formats import open_artifact
from onnxplain.runtime.batch_size import MOST_TARGETS, RUN_BYTES, held, images_per_run, targets_per_run
from onnxplain.runtime.target_parts import run_in_parts
from tests.helpers import tiny_artifact

TARGETS = [5, -1, 0, 3, -2, *range(6), *range(-6, 0), *range(6)]
IMAGES = np.random.default_rng(0).normal(size=(2, 3, *tiny_artifact.SIZE)).astype(np.float32)


class Counting:
    """An artifact that notes what it is asked for."""

    def __init__(self, artifact):
        self.artifact, self.metadata, self.device, self.runs = artifact, artifact.metadata, artifact.device, []

    def run(self, inputs, targets, outputs):
        self.runs.append((list(targets), list(outputs)))
        return self.artifact.run(inputs, targets, outputs)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return open_artifact(tiny_artifact.build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), "cpu", 1)


def test_the_outputs_are_those_of_one_run(artifact):
    counting, names = Counting(artifact), [item.output for item in artifact.metadata.outputs]
    found = run_in_parts(counting, IMAGES, TARGETS, names)
    whole = artifact.run(IMAGES, TARGETS, names)
    assert list(found) == list(whole) == [*ALWAYS, *names]
    for name, value in whole.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    (shared, forward), *parts = counting.runs
    assert shared == TARGETS and "attention_mean" in forward and "reciprocam" in forward and "relevance" not in forward
    assert [target for targets, _ in parts for target in targets] == TARGETS
    assert [len(targets) for targets, _ in parts] == [8, 8, 7]
    assert all(sorted([*forward, *outputs]) == sorted(names) for _, outputs in parts)


@pytest.mark.parametrize("names", [[], ["attention_mean"], ["reciprocam"], ["attention", "reciprocam"]])
def test_what_takes_no_backward_pass_takes_one_run(names, artifact):
    counting = Counting(artifact)
    assert list(run_in_parts(counting, IMAGES, TARGETS, names)) == [*ALWAYS, *names]
    assert counting.runs == [(TARGETS, names)]


@pytest.mark.parametrize("name", ["attention_gradient", "relevance_positive", "pixel_gradient"])
def test_backward_passes_alone_have_no_run_beside_their_parts(name, artifact):
    counting = Counting(artifact)
    found = run_in_parts(counting, IMAGES, TARGETS, [name])
    assert len(counting.runs) == 3
    for output, value in artifact.run(IMAGES, TARGETS, [name]).items():
        np.testing.assert_array_equal(found[output], value)


def test_a_plain_artifact_without_flags_computes_all_in_each_part(artifact):
    heatmaps = {"rollout": {"head_fusion": "mean"}, "transformer_attribution": {"start_layer": 0}}
    metadata = replace(artifact.metadata, heatmaps=heatmaps, flags="none")
    names = ["heatmap_rollout", "heatmap_transformer_attribution"]

    def answer(inputs, targets, outputs):
        classes = np.tile(np.array(targets), (len(inputs), 1))
        maps = np.random.default_rng(0).normal(size=(6, *tiny_artifact.SIZE))[classes]
        return {"logits": inputs.mean((2, 3)), "class_index": classes, **dict.fromkeys(outputs, maps)}

    counting = Counting(SimpleNamespace(metadata=metadata, device="cpu", run=answer))
    found = run_in_parts(counting, IMAGES, TARGETS, names)
    assert len(counting.runs) == 3 and all(outputs == names for _, outputs in counting.runs)
    for name, value in answer(IMAGES, TARGETS, names).items():
        np.testing.assert_array_equal(found[name], value)
    counting.runs.clear()
    only = replace(metadata, heatmaps={"rollout": heatmaps["rollout"]})
    run_in_parts(Counting(SimpleNamespace(metadata=only, device="cpu", run=counting.run)), IMAGES, TARGETS, names[:1])
    assert len(counting.runs) == 1


def test_fewer_targets_in_a_run_as_one_needs_more_memory(artifact):
    def fits(tokens, images=1, name="gradient_relevance_positive", **changes):
        return targets_per_run(_vit_b(artifact.metadata, tokens, **changes), images, [name])

    assert fits(197) == MOST_TARGETS
    assert 1 < fits(577) < MOST_TARGETS
    assert 1 < fits(197, images=4) < MOST_TARGETS
    assert 1 < fits(400, name="relevance") < fits(400)
    assert fits(1370) == fits(8000) == 1
    assert fits(577, precision="float64") < fits(577)


def _vit_b(metadata, tokens, **changes):
    """A ViT-B for so many tokens."""
    wide = replace(metadata.preprocessing, size=(1, tokens - 1))
    metadata = replace(metadata, preprocessing=wide, patch_grid=wide.size, layers=12, heads=12)
    return replace(metadata, token_width=768, hidden_width=3072, **changes)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["gradient_relevance_positive", "relevance", "pixel_gradient", "heatmap_legrad"])
@pytest.mark.parametrize("tokens", [50, 197, 577, 1370])
def test_where_several_images_fit_all_targets_do(tokens, name, precision, artifact):
    """Or each of several runs would take the forward pass of all images once more."""
    heatmaps = {"legrad": {}} if name.startswith("heatmap_") else {}
    metadata = _vit_b(artifact.metadata, tokens, precision=precision, heatmaps=heatmaps)
    for device in ("cpu", "cuda"):
        for targets in (1, 2, 5, 10, 30):
            images = images_per_run(
                SimpleNamespace(metadata=metadata, device=device), [name, "attention_mean"], targets
            )
            if images > 1:
                assert targets_per_run(metadata, images, [name]) >= min(targets, MOST_TARGETS)


def test_what_a_run_holds_by_hand(artifact):
    """An image has 12 layers of attention, a class 14 times a hidden layer and attention, and a map for each layer."""
    image, target = 12 * 12 * 197**2, 14 * (197 * 3072 + 12 * 197**2) + 12 * 197**2
    for precision, size in (("float32", 4), ("int8", 4), ("float16", 4), ("float64", 8)):
        metadata, names = _vit_b(artifact.metadata, 197, precision=precision), ["gradient_relevance_positive"]
        for targets in (1, 2, 3, 4):
            images = images_per_run(SimpleNamespace(metadata=metadata, device="cuda"), names, targets)
            assert images == min(8, RUN_BYTES // (size * (image + targets * target)))
            assert targets_per_run(metadata, 4, names) == (RUN_BYTES // 4 - size * image) // (size * target)


def test_explanations_of_many_classes(artifact, tmp_path, monkeypatch):
    """Each is that of its class alone, also where a method runs the graph on many inputs."""
    explainer = Explainer(tiny_artifact.build(tmp_path / "tiny.onnx"), "cpu", 1)
    counting = Counting(explainer.artifact)
    monkeypatch.setattr(explainer, "_artifact", counting)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    methods = {"transformer_attribution": {}, "integrated_gradients": {"steps": 2}}
    many = explainer.explain_all(image, TARGETS, methods=methods)
    tensors = explainer.tensors(image, TARGETS, ["relevance"])["relevance"]
    assert max(len(targets) for targets, _ in counting.runs) <= MOST_TARGETS
    for index, target in enumerate(TARGETS[:8]):
        single = explainer.explain_all(image, target, methods=methods)
        np.testing.assert_array_equal(
            explainer.tensors(image, target, ["relevance"])["relevance"][:, 0], tensors[:, index]
        )
        for name, one in single.items():
            assert many[name][index].target == one.target
            np.testing.assert_array_equal(many[name][index].heatmap, one.heatmap)


def test_a_plain_artifact_that_does_not_name_all_parameters(tmp_path):
    """As one that was not written by this version: those that it does not name have their defaults."""
    metadata = Explainer(tiny_artifact.build(tmp_path / "x.onnx"), "cpu").metadata
    for given in ({}, {"head_fusion": "mean"}):
        plain = replace(metadata, heatmaps={"rollout": given}, flags="none")
        assert held(plain, ["heatmap_rollout"]) == ["attention_mean"]
