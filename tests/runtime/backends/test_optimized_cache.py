"""What is kept beside an artifact: used only if it belongs to exactly that file, and never the cause of an error."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.runtime import CacheWarning, Explainer, OnnxplainError
from onnxplain.runtime.backends import optimized_cache as cache_module
from onnxplain.runtime.backends.optimized_cache import open_cached
from tests.helpers import tiny_artifact

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "tiny.onnx"
    tiny_artifact.build(path)
    return path


@pytest.fixture
def large(tmp_path):
    """An artifact with a weight that is large enough to be kept apart from the graph."""
    path = tiny_artifact.build(tmp_path / "large.onnx")
    model = tiny_artifact.onnx.load(path)
    weight = next(item for item in model.graph.initializer if item.name == "weight")
    large = np.zeros((3, 4000), np.float32)
    large[:, : weight.dims[1]] = tiny_artifact.numpy_helper.to_array(weight)
    cut = tiny_artifact.helper.make_node("Slice", ["large", "starts", "ends", "axis1"], ["weight"])
    extra = {"large": large, "starts": np.array([0]), "ends": np.array([weight.dims[1]])}
    model.graph.initializer.remove(weight)
    model.graph.initializer.extend(tiny_artifact.numpy_helper.from_array(v, k) for k, v in extra.items())
    model.graph.node.insert(0, cut)
    tiny_artifact.save(model, path)
    return path


def _opened(path):
    """The files that are tried and opened for an artifact, by what of the path is below its folder."""
    tried = []

    def start(file):
        tried.append(file)
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    session = open_cached(path, start)
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


def _other_content(path, monkeypatch):
    file = path.stat()
    tiny_artifact.build(path, model="true")  # as long as "tiny"
    os.utime(path, ns=(file.st_atime_ns, file.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (file.st_size, file.st_mtime_ns)


def _other_version(path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "__version__", "0.0")


@pytest.mark.parametrize("change", [_other_content, _other_version])
def test_what_belongs_to_another_file_or_version_is_replaced(change, artifact, monkeypatch):
    Explainer(artifact, "cpu", 1, cache=True)
    before = _kept(artifact)
    change(artifact, monkeypatch)
    explainer = Explainer(artifact, "cpu", 1, cache=True)
    assert explainer.metadata == Explainer(artifact, "cpu", 1).metadata
    assert explainer.metadata.model == ("true" if change is _other_content else "tiny")
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


def test_nothing_is_printed_where_a_cache_is_made_again(artifact, capfd):
    Explainer(artifact, "cpu", 1, cache=True)
    [graph] = Path(f"{artifact}.cache").rglob("graph.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])
    Explainer(artifact, "cpu", 1, cache=True)
    assert capfd.readouterr() == ("", "")


def test_large_constants_are_kept_once_and_a_lack_of_them_is_noticed(large):
    """The folder is about as large as the file, and weights cut short are made again."""
    path = large
    plain = Explainer(path, "cpu", 1).tensors(PICTURE, [2])
    Explainer(path, "cpu", 1, cache=True)
    files = list((path.parent / "large.onnx.cache").rglob("*"))
    [weights] = [file for file in files if file.name == "weights"]
    assert sum(file.stat().st_size for file in files if file.is_file()) < 1.5 * path.stat().st_size
    weights.write_bytes(weights.read_bytes()[:1000])
    again = Explainer(path, "cpu", 1, cache=True).tensors(PICTURE, [2])
    for name, value in plain.items():
        np.testing.assert_array_equal(again[name], value)
    assert weights.stat().st_size > 1000


@pytest.mark.parametrize("name", ["graph.onnx", "weights", "sha256"])
def test_a_single_bit_of_what_is_kept_is_noticed(name, large, monkeypatch):
    """It is made again and not answered from; the same where another's graph and weights stand in its place."""
    explainer = Explainer(large, "cpu", 1, cache=True)
    plain = explainer.tensors(PICTURE, [2])
    [file] = (large.parent / "large.onnx.cache").rglob(name)
    content, rng = file.read_bytes(), np.random.default_rng(0)
    for place in {0, len(content) - 1, *rng.integers(len(content), size=4).tolist()}:
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = Explainer(large, "cpu", 1, cache=True).tensors(PICTURE, [2])
        for output, value in plain.items():
            np.testing.assert_array_equal(again[output], value)
        assert file.read_bytes() == content
        monkeypatch.setattr(cache_module, "_make", None)  # found whole now
        Explainer(large, "cpu", 1, cache=True)
        monkeypatch.undo()


def test_nothing_is_kept_of_a_damaged_artifact(artifact):
    """Not even where nothing but a weight is another, so that onnxruntime has no objection."""
    content = bytearray(artifact.read_bytes())
    weight = next(item for item in tiny_artifact.onnx.load(artifact).graph.initializer if item.name == "weight")
    content[content.index(weight.raw_data)] ^= 4
    artifact.write_bytes(content)
    with pytest.raises(OnnxplainError, match="damaged or changed since export"):
        Explainer(artifact, "cpu", 1, cache=True)
    assert [item.name for item in artifact.parent.iterdir()] == ["tiny.onnx"]


def test_nothing_is_kept_of_a_file_that_has_taken_the_place_of_the_artifact(artifact, monkeypatch):
    """What is kept is called by the digest of the first, so the second would answer for it ever after."""
    check = cache_module._check_files

    def replace(path, kept):
        tiny_artifact.build(path, model="other")
        check(path, kept)

    monkeypatch.setattr(cache_module, "_check_files", replace)
    with pytest.warns(CacheWarning, match="was removed, replaced or written into while it was opened"):
        assert Explainer(artifact, "cpu", 1, cache=True).metadata.model == "other"
    assert [item.name for item in artifact.parent.iterdir()] == ["tiny.onnx"]


def test_the_same_artifact_is_found_wherever_it_came_from(artifact, monkeypatch):
    """What was kept belongs to the content: a copy of another time and place needs nothing made."""
    Explainer(artifact, "cpu", 1, cache=True)
    other = artifact.parent / "copy.onnx"
    other.write_bytes(artifact.read_bytes())
    os.utime(other, ns=(0, 0))
    shutil.copytree(f"{artifact}.cache", f"{other}.cache")
    monkeypatch.setattr(cache_module, "_make", None)  # would be an error if it were called
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Explainer(other, "cpu", 1, cache=True)


def test_with_an_older_onnxruntime_the_weights_are_in_the_graph(large, monkeypatch):
    plain = Explainer(large, "cpu", 1).tensors(PICTURE, [2])
    monkeypatch.setattr(cache_module, "APART", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached = Explainer(large, "cpu", 1, cache=True).tensors(PICTURE, [2])
    for output, value in plain.items():
        np.testing.assert_array_equal(cached[output], value)
    assert [file.name for file in _kept(large)] == ["graph.onnx", "sha256"]


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
    with pytest.raises(OnnxplainError, match="`cache` is for ONNX files"):
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


@pytest.mark.parametrize("name", ["sha256", "graph.onnx"])
def test_a_pipe_among_what_is_kept_does_not_hold_anyone_up(name, artifact):
    Explainer(artifact, "cpu", cache=True)
    (kept,) = Path(f"{artifact}.cache").iterdir()
    (kept / name).unlink()
    os.mkfifo(kept / name)
    expected = Explainer(artifact, "cpu").explain(PICTURE).heatmap
    np.testing.assert_array_equal(Explainer(artifact, "cpu", cache=True).explain(PICTURE).heatmap, expected)
    assert (kept / name).is_file()  # it was made again


def test_what_else_is_in_the_folder_stays(artifact):
    folder = Path(f"{artifact}.cache")
    others = [folder / "mine" / "file", folder / ".hidden" / "file", folder / ("0" * 15) / "file"]
    outdated = folder / ("0" * 16) / "graph.onnx"
    for path in (*others, outdated):
        path.parent.mkdir(parents=True)
        path.write_text("x")
        os.utime(path.parent, (0, 0))
    Explainer(artifact, "cpu", cache=True)
    assert all(path.exists() for path in others) and not outdated.exists()
