"""`heads` and `features` of exported models against slow versions in float64."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from timm.layers import LayerNorm
from timm.models import create_model
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from onnxplain.contract.outputs import ALWAYS
from onnxplain.export import Backbone, export_model
from onnxplain.runtime import Explainer, OnnxplainError, Preprocessing, preprocess
from tests.helpers.command_line import random_image
from tests.helpers.quick_export import export_unchecked
from tests.reference import variants
from tests.reference import views as slow

SMALL = {"img_size": 64, "patch_size": 8, "num_classes": 5, "embed_dim": 48, "depth": 3, "num_heads": 3}
OPTIONS = {
    "class token": {},
    "registers": {"reg_tokens": 4},
    "distilled": {},
    "mean of patches": {"global_pool": "avg", "class_token": False},
    "mean of patches after registers": {"global_pool": "avg", "reg_tokens": 2, "fc_norm": False},
    "attention pool": {"global_pool": "map", "class_token": False},
    "attention pool of patches": {"global_pool": "map", "reg_tokens": 1},
    "no head": {"num_classes": 0, "reg_tokens": 2},
    "not square": {"img_size": (48, 80), "norm_layer": partial(LayerNorm, eps=1e-5), "pre_norm": True},
}
PICTURES = [random_image(seed, 90 + 10 * seed, 120 - 20 * seed) for seed in range(3)]
LIMIT = 1e-5


def model_of(name):
    kind = VisionTransformerDistilled if name == "distilled" else VisionTransformer
    model = kind(**SMALL | OPTIONS[name]).eval()
    variants.randomise(model)
    return model


def backbone_of(model):
    preprocessing = Preprocessing(model.patch_embed.img_size, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 0.9)
    count, pooling = (model.num_classes, None) if model.num_classes else (model.embed_dim, "own")
    labels = tuple(f"output {index}" for index in range(count))
    return Backbone("small", model, preprocessing, labels, "softmax", "random", None, pooling)


@pytest.fixture(scope="module", params=OPTIONS)
def case(request, tmp_path_factory):
    """A model in float64, an Explainer of its file, and the pixels of the pictures in float64."""
    model = model_of(request.param)
    passes = None if model.num_classes == 0 else ["features"]
    path = export_unchecked(backbone_of(model), tmp_path_factory.mktemp("views") / "small.onnx", passes=passes)
    explainer = Explainer(path, "cpu")
    assert explainer.metadata.passes == ("attention", "features")
    pixels = np.stack([preprocess(picture, explainer.metadata.preprocessing)[0] for picture in PICTURES])
    return copy.deepcopy(model).double(), explainer, torch.from_numpy(pixels).double()


def test_heads(case):
    model, explainer, pixels = case
    metadata = explainer.metadata
    pool = metadata.pool_heads > 0
    for picture, one in zip(PICTURES, pixels, strict=True):
        found = explainer.heads(picture)
        rows = [0] if pool else list(metadata.readout)
        expected = slow.heads(model, one, -1, rows, metadata.patch_grid)
        assert found.maps.dtype == np.float32 and found.maps.shape == expected.shape == (3, *metadata.patch_grid)
        assert np.abs(found.maps - expected).max() <= LIMIT * expected.max()
        assert (found.layer, found.pool) == (metadata.layers - 1 + pool, pool)


def test_every_layer(case):
    model, explainer, pixels = case
    metadata = explainer.metadata
    for layer in range(metadata.layers):
        found = explainer.heads(PICTURES[0], layer)
        if not metadata.pool_heads:
            expected = slow.heads(model, pixels[0], layer, list(metadata.readout), metadata.patch_grid)
            assert np.abs(found.maps - expected).max() <= LIMIT * expected.max()
        assert found.layer == layer and not found.pool
        again = explainer.heads(PICTURES[0], layer - metadata.layers - (metadata.pool_heads > 0))
        assert np.array_equal(again.maps, found.maps)
        # A pool reads the layers by its own attention, which the method does as well
        mean = explainer.explain(PICTURES[0], method="raw_attention", layer=layer).tokens
        np.testing.assert_allclose(found.maps.mean(0), mean, rtol=1e-5)


def test_features(case):
    model, explainer, pixels = case
    metadata = explainer.metadata
    found = explainer.features(PICTURES)
    patches = slow.patch_features(model, pixels, metadata.prefix_tokens)
    first, foreground, colours = slow.colours(patches, metadata.patch_grid)
    assert found.values.shape == (3, *metadata.patch_grid, 48) and found.colours.shape == (3, *metadata.patch_grid, 3)
    assert {array.dtype for array in (found.values, found.first, found.colours)} == {np.dtype(np.float32)}
    assert np.abs(found.values.reshape(patches.shape) - patches).max() <= LIMIT * np.abs(patches).max()
    assert np.abs(found.first - first).max() <= LIMIT * np.abs(first).max()
    assert found.foreground.dtype == bool and np.array_equal(found.foreground, foreground)
    assert 0 < foreground.sum() < foreground.size
    assert np.abs(found.colours - colours).max() <= LIMIT
    assert all(found.colours[foreground].min(0) == 0) and all(found.colours.max((0, 1, 2)) == 1)


def test_outputs_as_they_are(case):
    _, explainer, _ = case
    tensors = explainer.tensors(PICTURES[0], passes=["features"])
    assert set(tensors) == {*ALWAYS, "features"}
    assert tensors["features"].shape == explainer.metadata.full_shape("features", 1, 1)
    (values,) = tensors["features"][:, explainer.metadata.prefix_tokens :]
    assert np.array_equal(values, explainer.features(PICTURES[0]).values.reshape(values.shape))


@pytest.mark.parametrize("precision", ["float64", "float16"])
def test_precisions(precision, tmp_path):
    """The gate passes, and float64's features are those of the definition."""
    model = model_of("registers")
    report = export_model(backbone_of(model), tmp_path / "small.onnx", passes=["features"], precision=precision)
    assert "features" in {row.output for row in report.rows}
    explainer = Explainer(tmp_path / "small.onnx", "cpu")
    pixels, _ = preprocess(PICTURES[0], explainer.metadata.preprocessing)
    right = slow.patch_features(
        model.double(), torch.from_numpy(pixels[None]).double(), explainer.metadata.prefix_tokens
    )
    off = np.abs(explainer.features(PICTURES[0]).values.reshape(right.shape) - right).max() / np.abs(right).max()
    assert off <= 1e-6 if precision == "float64" else 1e-5 < off <= 1e-2


def test_int8(tmp_path):
    """Backward passes alone are in int8."""
    model = model_of("class token")
    report = export_model(
        backbone_of(model), tmp_path / "small.onnx", passes=["gradient", "features"], precision="int8"
    )
    assert "features" in {row.output for row in report.rows}
    with pytest.raises(OnnxplainError, match="int8 is for passes that go back from the logits"):
        export_model(backbone_of(model), tmp_path / "other.onnx", passes=["features"], precision="int8")


def test_torchscript(tmp_path):
    model = model_of("class token")
    report = export_model(backbone_of(model), tmp_path / "small.pt", format="torchscript", passes=["features"])
    assert "features" in {row.output for row in report.rows}
    other = export_unchecked(backbone_of(model), tmp_path / "small.onnx", passes=["features"])
    given, right = (
        Explainer(path, "cpu", trust=path.suffix == ".pt").features(PICTURES) for path in (tmp_path / "small.pt", other)
    )
    np.testing.assert_allclose(given.values, right.values, atol=1e-5 * np.abs(right.values).max())


def test_a_model_without_classes_has_no_other_passes(tmp_path):
    model = model_of("no head")
    with pytest.raises(OnnxplainError, match="its file can have attention and features only"):
        export_unchecked(backbone_of(model), tmp_path / "small.onnx", passes=["gradient"])
    path = export_unchecked(backbone_of(model), tmp_path / "small.onnx", passes=[])
    assert Explainer(path, "cpu").metadata.passes == ("attention",)


def test_a_model_of_dinov2_without_a_head(tmp_path):
    """As users of self-supervised models have it: checked, with both views, and no class to ask for."""
    model = create_model("vit_small_patch14_reg4_dinov2", img_size=56, depth=2, num_classes=0).eval()
    variants.randomise(model)
    export_model(backbone_of(model), tmp_path / "dino.onnx")
    explainer = Explainer(tmp_path / "dino.onnx", "cpu")
    assert explainer.metadata.passes == ("attention", "features")
    assert explainer.heads(PICTURES[0]).maps.shape == (6, 4, 4)
    assert explainer.features(PICTURES).colours.shape == (3, 4, 4, 3)
