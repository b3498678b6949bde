"""Kept features: used only where model, preprocessing and images are the same, and never the cause of an error."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from onnxplain.export import load_features, probe, read_head, split_images
from onnxplain.export.probing.feature_cache import BATCH
from onnxplain.runtime import OnnxplainError
from tests.helpers.command_line import contents
from tests.helpers.digits import SMALL, TIMM


@pytest.fixture
def counted():
    """Features of a model, and how many pictures each of its runs had."""
    runs = []

    def load(*arguments, **options):
        runs.clear()
        features = load_features(*arguments, **options)
        features.model.register_forward_hook(lambda module, given, result: runs.append(len(given[0])))
        return features

    return load, runs


def _probe(features, own, **options):
    return probe(features, split_images(own), "head.safetensors", **{"C": 1} | options)


def test_features_are_computed_once(own, counted):
    load, runs = counted
    first = _probe(load("demo"), own)
    assert sum(runs) == 1 + 60 and max(runs) <= BATCH and first.computed == 60  # one more, the picture of noise
    weight = read_head("head.safetensors").weight
    assert _probe(load("demo"), own).computed == 0 and runs == [1]
    assert torch.equal(read_head("head.safetensors").weight, weight)
    assert _probe(load("demo"), own, C=0.001).computed == 0 and runs == [1]
    assert not torch.allclose(read_head("head.safetensors").weight, weight)
    again = probe(load("demo"), split_images(own, held_out=0.4, seed=3), "head.safetensors", C=1)
    assert again.computed == 0 and runs == [1]
    assert sorted(path.name for path in Path().iterdir()) == ["data", "head.features.safetensors", "head.safetensors"]


def test_a_changed_image_is_looked_at_again(own, counted):
    load, runs = counted
    _probe(load("demo"), own, cache="kept.safetensors")
    changed = own / "one" / "3.png"
    with Image.open(changed) as picture:
        picture.rotate(90).save(changed)
    assert _probe(load("demo"), own, cache="kept.safetensors").computed == 1 and runs == [1, 1]
    partly = read_head("head.safetensors").linear()
    _probe(load("demo"), own)  # with another cache, so all anew
    assert sum(runs) == 61
    torch.testing.assert_close(read_head("head.safetensors").linear().weight, partly.weight)


OTHER = {
    "weights": {"name": "timm/deit_tiny_patch16_224"},
    "size": {"image_size": 48},
    "pooling": {"head_pooling": "mean"},
}


@pytest.mark.parametrize("other", OTHER)
def test_features_of_another_model_are_not_used(other, own, counted):
    load, runs = counted
    given = {"name": f"timm/{TIMM}", **SMALL}
    _probe(load(**given), own)
    assert _probe(load(**given | OTHER[other]), own).computed == 60 and sum(runs) == 61


def test_features_of_a_model_that_differs_in_what_weights_do_not_tell_are_not_used(own, counted):
    load, _ = counted
    features = load("demo")
    _probe(features, own)
    for block in features.model.features.blocks:
        block.attn.num_heads, block.attn.head_dim = 2, 64
    assert _probe(features, own).computed == 60


def test_interrupted_work_is_kept(own, counted):
    def interrupt(stage, done, total):
        assert total == 60
        if done == BATCH + 1:
            raise KeyboardInterrupt

    load, runs = counted
    with pytest.raises(KeyboardInterrupt):
        _probe(load("demo"), own, progress=interrupt)
    assert not Path("head.safetensors").exists() and runs == [1, BATCH]
    assert _probe(load("demo"), own).computed == 60 - BATCH


def test_a_head_is_no_cache(own):
    """Another safetensors file than one of features is not overwritten either."""
    _probe(load_features("demo"), own)
    before = contents()
    with pytest.raises(OnnxplainError, match=r"head\.safetensors is no cache of features"):
        probe(load_features("demo"), split_images(own), "other.safetensors", C=1, cache="head.safetensors")
    assert contents() == before


def test_features_that_are_not_finite(own):
    features = load_features("demo")
    features.model.features.norm.bias.data[0] = float("nan")
    with pytest.raises(OnnxplainError, match=r"features that demo gives of data/one/\d+.png are not finite"):
        _probe(features, own)
    assert not Path("head.safetensors").exists()
