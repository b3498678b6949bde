"""Weights stay in the artifact's file: the model that onnxruntime is given holds all but these, and gives the same."""

import os
import sys
from contextlib import nullcontext

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxplain.runtime import ArtifactError, CacheWarning, Explainer
from onnxplain.runtime.backends import onnx as module
from onnxplain.runtime.backends.in_place import LEAST_IN_PLACE, in_place
from tests.helpers import tiny_artifact

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def artifact(tmp_path):
    """With a large weight; all of it counts, as the model is the mean of what its rows give."""
    path = tiny_artifact.build(tmp_path / "x.onnx")
    model = onnx.load(path)
    weight = next(item for item in model.graph.initializer if item.name == "weight")
    values = onnx.numpy_helper.to_array(weight)
    noise = (
        np.random.default_rng(0).normal(size=(LEAST_IN_PLACE // values.nbytes + 1, *values.shape)).astype(np.float32)
    )
    model.graph.initializer.remove(weight)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values + noise, "large"))
    mean = onnx.helper.make_node("ReduceMean", ["large", "first"], ["weight"], keepdims=0)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    model.graph.node.insert(0, mean)
    tiny_artifact.save(model, path)
    return path


def _without_data(model, names):
    """The model, where the tensors of these names have neither values nor a place."""
    for tensor in model.graph.initializer:
        if tensor.name in names:
            for field in ("raw_data", "external_data", "data_location"):
                tensor.ClearField(field)
    return model


def test_all_but_large_weights_is_the_same(artifact):
    content, whole = in_place(artifact), onnx.load(artifact)
    model = onnx.load_from_string(content.model)
    outside = {item.name: item for item in model.graph.initializer if item.external_data}
    assert outside.keys() == {item.name for item in whole.graph.initializer if len(item.raw_data) >= LEAST_IN_PLACE}
    assert outside.keys() == {"large"}
    for tensor in whole.graph.initializer:
        if tensor.name in outside:
            place = {entry.key: entry.value for entry in outside[tensor.name].external_data}
            begin = int(place["offset"])
            assert (content.folder / place["location"]).read_bytes()[begin:][: int(place["length"])] == tensor.raw_data
    assert _without_data(model, outside) == _without_data(whole, outside)


def test_outputs_are_the_same_to_the_last_bit(artifact):
    explainer = Explainer(artifact, "cpu", 1)
    found = explainer.tensors(IMAGE, [0, -1])
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    feeds = {"pixels": explainer._prepare(IMAGE).input[None], "target": np.array([[0, -1]])}
    for name, value in zip(found, session.run(list(found), feeds), strict=True):
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("name", ["a b;$'\".onnx", "über.onnx", "x.onnx.data", "-"])
def test_any_name_and_links_from_other_folders(name, artifact, tmp_path):
    """As stores of models have them: a link with a readable name to a file that is called by its digest."""
    expected = Explainer(artifact, "cpu", 1).tensors(IMAGE)
    store, links = tmp_path / "störe", tmp_path / "links"
    store.mkdir()
    links.mkdir()
    artifact.rename(store / name)
    (links / "model.onnx").symlink_to(store / name)
    for path in (store / name, links / "model.onnx"):
        for output, value in Explainer(path, "cpu", 1).tensors(IMAGE).items():
            np.testing.assert_array_equal(value, expected[output])


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
@pytest.mark.parametrize("cache", [False, True])
def test_names_that_are_not_utf_8(cache, artifact, tmp_path, monkeypatch):
    """onnxruntime takes no such folder, but such a file."""
    expected = Explainer(artifact, "cpu", 1).tensors(IMAGE)
    folder, file = (tmp_path / os.fsdecode(b"\xff" + end) for end in (b"", b".onnx"))
    folder.mkdir()
    (folder / "x.onnx").hardlink_to(artifact)
    (tmp_path / "link.onnx").symlink_to(folder / "x.onnx")
    file.hardlink_to(artifact)
    for path in (folder / "x.onnx", tmp_path / "link.onnx"):
        with pytest.raises(ArtifactError, match="a name that is not UTF-8, which onnxruntime cannot open") as error:
            Explainer(path, "cpu", 1)
        assert "\n" not in str(error.value)
    with pytest.warns(CacheWarning, match="a name that is not UTF-8") if cache else nullcontext():
        found = Explainer(file, "cpu", 1, cache=cache).tensors(IMAGE)
    for output, value in found.items():
        np.testing.assert_array_equal(value, expected[output])
    monkeypatch.setattr(module, "CPU", None)  # as on any other device
    with pytest.raises(ArtifactError, match="a name that is not UTF-8, which onnxruntime cannot open"):
        Explainer(file, "cpu", 1)


def test_the_file_may_be_replaced_while_it_is_open(artifact, tmp_path):
    """As export and most other programs do it: another file is given its name."""
    explainer = Explainer(artifact, "cpu", 1)
    expected = explainer.tensors(IMAGE)
    other = tmp_path / "other"
    other.write_bytes(b"")
    other.replace(artifact)
    for output, value in explainer.tensors(IMAGE).items():
        np.testing.assert_array_equal(value, expected[output])


def test_what_is_written_into_an_open_file_changes_the_answers(artifact):
    """README and SECURITY.md warn of it."""
    opened = module.OnnxArtifact(artifact, "cpu", 1, frugal=True)  # which computes the mean of the weight in each run
    pixels = np.random.default_rng(0).normal(size=opened.metadata.input_shape(1)).astype(np.float32)
    expected = opened.run(pixels, [0], [])["logits"]
    [weight] = [item for item in onnx.load(artifact).graph.initializer if item.name == "large"]
    with artifact.open("r+b") as file:
        file.seek(artifact.read_bytes().index(weight.raw_data))
        file.write((2 * onnx.numpy_helper.to_array(weight)).tobytes())
    np.testing.assert_allclose(opened.run(pixels, [0], [])["logits"], 2 * expected, rtol=1e-5)


def _write_into(path, other):
    with path.open("r+b") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "change",
    [
        lambda path, other: other.replace(path),
        _write_into,
        lambda path, other: path.unlink(),
    ],
)
def test_a_file_that_is_replaced_while_it_opens_is_an_error(change, artifact, tmp_path, monkeypatch):
    """The weights would be read where the old file had them, out of the new one."""
    other = tmp_path / "other.onnx"
    model = onnx.load(artifact)
    model.doc_string = "moves all that follows"
    tiny_artifact.save(model, other)

    def read(path):
        small = in_place(path)
        change(path, other)
        return small

    monkeypatch.setattr(module, "in_place", read)
    with pytest.raises(ArtifactError, match="was removed, replaced or written into while it was opened") as error:
        Explainer(artifact, "cpu", 1)
    assert str(artifact) in str(error.value) and "\n" not in str(error.value)


def test_onnxruntime_is_given_no_large_weight(artifact, monkeypatch):
    given = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, model, *rest, **options):
            given.append(model)
            super().__init__(model, *rest, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    Explainer(artifact, "cpu", 1)
    assert given == [in_place(artifact).model]
