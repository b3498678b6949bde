"""What is kept beside an artifact: used only if it belongs to exactly that file, and never the cause of an error."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_artifact
from PIL import Image
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.runtime import CacheWarning, Explainer, OnnxplainError
from onnxplain.runtime import cache as cache_module
from onnxplain.runtime.cache import open_kept

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "tiny.onnx"
    tiny_artifact.build(path)
    return path


def _opened(path):
    """The files that are tried and opened for an artifact, by what of the path is below its folder."""
    tried = []

    def start(file):
        tried.append(file)
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    session = open_kept(path, start)
    assert {item.name for item in session.get_inputs()} == {"pixels", "target"}
    return [file.relative_to(path.parent) for file in tried]


def _kept(path):
    folder = path.parent / f"{path.name}.cache"
    return sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())


def test_outputs_are_the_same_to_the_last_bit(artifact):
    plain = Explainer(artifact, "cpu", 1).tensors(PICTURE, [0, -1])
    for _ in ("made", "found"):
        cached = Explainer(artifact, "cpu", 1, cache=True)
        assert cached.metadata == Explainer(artifact, "cpu", 1).metadata
        outputs = cached.tensors(PICTURE, [0, -1])
        assert list(outputs) == list(plain)
        for name, value in plain.items():
            np.testing.assert_array_equal(outputs[name], value)


def test_it_is_made_once_and_opened_in_place_of_the_artifact(artifact, monkeypatch):
    first = _opened(artifact)
    assert len(first) == 1 and first[0].parts[0] == "tiny.onnx.cache" and first[0].name == "graph.onnx"
    stamp = (artifact.parent / first[0]).stat().st_mtime_ns
    monkeypatch.setattr(cache_module, "_make", None)  # would be an error if it were called
    assert _opened(artifact) == first
    assert (artifact.parent / first[0]).stat().st_mtime_ns == stamp


def _other_time(path, monkeypatch):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def _other_content(path, monkeypatch):
    stamp = path.stat().st_mtime_ns
    tiny_artifact.build(path, model="another")
    os.utime(path, ns=(stamp, stamp))


def _other_version(path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "__version__", "0.0")


@pytest.mark.parametrize("change", [_other_time, _other_content, _other_version])
def test_what_belongs_to_another_file_or_version_is_replaced(change, artifact, monkeypatch):
    Explainer(artifact, "cpu", 1, cache=True)
    before = _kept(artifact)
    change(artifact, monkeypatch)
    explainer = Explainer(artifact, "cpu", 1, cache=True)
    assert explainer.metadata == Explainer(artifact, "cpu", 1).metadata
    after = _kept(artifact)
    assert len(after) == len(before) and not set(after) & set(before)


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: file.unlink()])
def test_what_is_damaged_is_made_again(damage, artifact):
    [graph] = _opened(artifact)
    damage(artifact.parent / graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _opened(artifact) == [graph, graph]
        assert _opened(artifact) == [graph]


def test_large_constants_are_kept_once_and_a_lack_of_them_is_noticed(tmp_path):
    """The folder is about as large as the file, and weights cut short are made again."""
    path = tmp_path / "large.onnx"
    tiny_artifact.build(path)
    model = tiny_artifact.onnx.load(path)
    weight = next(item for item in model.graph.initializer if item.name == "weight")
    large = np.zeros((3, 4000), np.float32)
    large[:, : weight.dims[1]] = tiny_artifact.numpy_helper.to_array(weight)
    cut = tiny_artifact.helper.make_node("Slice", ["large", "starts", "ends", "axis1"], ["weight"])
    extra = {"large": large, "starts": np.array([0]), "ends": np.array([weight.dims[1]])}
    model.graph.initializer.remove(weight)
    model.graph.initializer.extend(tiny_artifact.numpy_helper.from_array(v, k) for k, v in extra.items())
    model.graph.node.insert(0, cut)
    tiny_artifact.onnx.save(model, path)
    plain = Explainer(path, "cpu", 1).tensors(PICTURE, [2])
    Explainer(path, "cpu", 1, cache=True)
    files = list((tmp_path / "large.onnx.cache").rglob("*"))
    [weights] = [file for file in files if file.name == "weights"]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 1.5 * path.stat().st_size
    weights.write_bytes(weights.read_bytes()[:1000])
    again = Explainer(path, "cpu", 1, cache=True).tensors(PICTURE, [2])
    for name, value in plain.items():
        np.testing.assert_array_equal(again[name], value)
    assert weights.stat().st_size > 1000


def test_where_nothing_can_be_written_the_artifact_itself_is_opened(artifact):
    (artifact.parent / "tiny.onnx.cache").write_text("a file is in the way")
    with pytest.warns(CacheWarning, match=r"nothing can be kept of .*tiny\.onnx in .*tiny\.onnx\.cache: .*exists"):
        assert _opened(artifact) == [Path("tiny.onnx")]
    with pytest.warns(CacheWarning):
        explainer = Explainer(artifact, "cpu", 1, cache=True)
    assert explainer.explain(PICTURE).heatmap.shape == (40, 60)


def test_an_artifact_that_cannot_be_opened_is_named_and_leaves_nothing(artifact, tmp_path):
    artifact.write_bytes(artifact.read_bytes()[:200])
    for path in (artifact, tmp_path / "none.onnx"):
        with warnings.catch_warnings(), pytest.raises(OnnxplainError, match=path.name):
            warnings.simplefilter("error")
            Explainer(path, "cpu", cache=True)
    assert [item.name for item in tmp_path.iterdir()] == ["tiny.onnx"]
    with pytest.raises(OnnxplainError, match="a cache is for ONNX files"):
        Explainer(tmp_path / "x.pt", cache=True)


def test_nothing_is_kept_unless_asked(artifact):
    Explainer(artifact, "cpu", 1).explain(PICTURE)
    assert [item.name for item in artifact.parent.iterdir()] == ["tiny.onnx"]


def test_on_the_command_line(artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("cat.png")
    arguments = ["explain", "tiny.onnx", "cat.png", "--device", "cpu", "--output", "out"]
    plain = CliRunner().invoke(cli.app, arguments)
    cached = CliRunner().invoke(cli.app, [*arguments, "--cache"])
    assert plain.exit_code == cached.exit_code == 0 and not cached.stderr
    assert cached.stdout == plain.stdout.replace(".png\n", "-2.png\n")
    assert _kept(artifact)
    shutil.rmtree("tiny.onnx.cache")
    Path("tiny.onnx.cache").touch()
    warned = CliRunner().invoke(cli.app, [*arguments, "--cache"])
    assert warned.exit_code == 0 and len(warned.stderr.splitlines()) == 1
    assert warned.stderr.startswith("warning: nothing can be kept of tiny.onnx in tiny.onnx.cache: ")
