"""Artifacts that take images as they are, in the runtime: with one made by hand, whose maps are not those of tokens."""

import numpy as np
import onnx
import pytest

from onnxplain.runtime import METADATA_KEY, ArtifactError, Explainer, RunError
from tests.helpers.plain_artifact import build_plain, plain_document
from tests.helpers.tiny_artifact import save

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def _explainer(tmp_path, **changes):
    return Explainer(build_plain(tmp_path / "a.onnx", ("rollout", "legrad"), "required", "image", **changes), "cpu")


def test_the_graph_is_given_the_image(tmp_path):
    explainer = _explainer(tmp_path)
    given = explainer.explain(IMAGE, 2, "rollout")
    grey = IMAGE.astype(np.float32).mean(2)
    np.testing.assert_allclose(given.heatmap, np.sin(2 * grey), atol=1e-4)
    assert given.tokens.shape == (2, 3) and given.input_heatmap.shape == (16, 24)
    assert given.overlay().size == (60, 40)
    assert given.heatmap.base is None  # not a view of all that the run gave


def test_a_map_of_another_size_is_refused_in_one_line(tmp_path, monkeypatch):
    explainer = _explainer(tmp_path)
    run = explainer._artifact.run

    def smaller(*arguments):
        return {name: value[..., :9] if "heatmap" in name else value for name, value in run(*arguments).items()}

    monkeypatch.setattr(explainer._artifact, "run", smaller)
    with pytest.raises(RunError, match=r"a map \[40, 9\] for an image \[40, 60\]"):
        explainer.explain(IMAGE, 2, "rollout")


def test_a_map_with_nan_is_refused(tmp_path, monkeypatch):
    explainer = _explainer(tmp_path)
    run = explainer._artifact.run

    def spoiled(*arguments):
        return {name: value * np.nan if "heatmap" in name else value for name, value in run(*arguments).items()}

    monkeypatch.setattr(explainer._artifact, "run", spoiled)
    with pytest.raises(RunError, match="NaN"):
        explainer.explain(IMAGE, 2, "rollout")


def test_metadata_that_do_not_fit_the_graph(tmp_path):
    model = onnx.load(build_plain(tmp_path / "a.onnx"))
    onnx.helper.set_model_props(model, {METADATA_KEY: plain_document(input="image")})
    save(model, tmp_path / "b.onnx")
    with pytest.raises(ArtifactError, match="the graph has no image"):
        Explainer(tmp_path / "b.onnx", "cpu")
