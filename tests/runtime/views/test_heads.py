"""The heads of a layer: their maps are rows of the attention that the artifact gives."""

import numpy as np
import pytest

from onnxplain.runtime import Explainer, ImageError, OnnxplainError, RunError
from tests.helpers.command_line import random_image
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import GRID, HEADS, LAYERS, build


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), "cpu")


@pytest.mark.parametrize("layer", [0, 1, -1, -2, np.int64(1)])
def test_rows_of_attention(layer, explainer):
    picture = random_image(0)
    (attention,) = explainer.tensors(picture, passes=["attention"])["attention"]
    found = explainer.heads(picture, layer)
    assert found.maps.shape == (HEADS, *GRID) and found.maps.dtype == np.float32
    for head in range(HEADS):
        np.testing.assert_allclose(found.maps[head], attention[layer, head, 0, 1:].reshape(GRID), rtol=1e-6)
    assert (found.layer, found.pool, found.model) == (layer % LAYERS, False, "tiny")
    assert found.image.size == picture.size and found.placement.original == (40, 60)
    assert np.ptp(found.maps, axis=0).max() > 0  # heads differ
    assert repr(found) == f"<Heads of layer {layer % LAYERS}: 2 heads, an image of 60 x 40 pixels, 2 x 3 patches>"


def test_the_mean_of_several_rows(tmp_path):
    explainer = Explainer(build(tmp_path / "mean.onnx", readout=[1, 4, 6]), "cpu")
    (attention,) = explainer.tensors(random_image(0), passes=["attention"])["attention"]
    expected = (attention[-1, :, 1] + attention[-1, :, 4] + attention[-1, :, 6]) / 3
    np.testing.assert_allclose(explainer.heads(random_image(0)).maps, expected[:, 1:].reshape(-1, *GRID), rtol=1e-6)


@pytest.mark.parametrize("layer", [2, -3, 1.0, "0", True, None])
def test_no_such_layer(layer, explainer):
    with pytest.raises(OnnxplainError, match=r"`layer` must be .* \(this model has layers 0 to 1\), got"):
        explainer.heads("nowhere.png", layer)


def test_mistakes(explainer, tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="heads takes one image, got list"):
        explainer.heads([random_image(0)])
    with pytest.raises(ImageError, match="there is no image"):
        explainer.heads("nowhere.png")
    plain = Explainer(build_plain(tmp_path / "plain.onnx"), "cpu")
    with pytest.raises(OnnxplainError, match="this artifact has heatmaps only, and so no heads"):
        plain.heads(random_image(0))
    run = explainer.artifact.run
    monkeypatch.setattr(
        type(explainer.artifact),
        "run",
        lambda self, *given: {name: value * np.nan for name, value in run(*given).items()},
    )
    with pytest.raises(RunError, match="the values of attention are not finite"):
        explainer.heads(random_image(0))


def test_an_artifact_of_before_has_heads(tmp_path):
    """Attention is in every full artifact."""
    explainer = Explainer(build(tmp_path / "old.onnx", passes=("attention",)), "cpu")
    assert explainer.heads(random_image(0)).maps.shape == (HEADS, *GRID)
