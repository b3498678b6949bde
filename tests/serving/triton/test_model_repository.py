"""The folder that the command triton writes."""

import json
from pathlib import Path

import pytest

from onnxplain.contract.metadata import Metadata
from tests.helpers.command_line import assert_mistake, run
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import LABELS, build

HEATMAPS = ("rollout", "grad_rollout")
FILES = ["1/model.onnx", "README.md", "config.pbtxt", "labels.txt", "metadata.json"]


@pytest.fixture
def plain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return build_plain(Path("vit.onnx"))


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_files(plain):
    result = run("triton", plain, "--output", "models")
    assert result.exit_code == 0, result.output
    folder = Path("models/vit")
    assert _files("models") == [f"vit/{name}" for name in FILES]
    assert (folder / "1/model.onnx").read_bytes() == plain.read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == LABELS
    document = json.loads((folder / "metadata.json").read_text())
    told = json.loads(run("info", "--json", plain).stdout)
    assert document.items() <= told.items() and set(told) - set(document) == {"artifact", "bytes", "digest", "methods"}
    assert [line.split(":")[0] for line in result.stdout.splitlines()][-1] == "how to serve and ask it"
    assert (folder / "1/model.onnx").stat().st_mode == (folder / "config.pbtxt").stat().st_mode
    assert not (folder / "1/model.onnx").samefile(plain)  # a later export to the same name does not reach the server


def test_name_and_batch_size(plain):
    assert run("triton", plain, "--output", "models", "--name", "a.b-c_1", "--max-batch-size", "2").exit_code == 0
    text = Path("models/a.b-c_1/config.pbtxt").read_text()
    assert 'name: "a.b-c_1"' in text and "max_batch_size: 2 " in text


def test_force_replaces_the_files_and_leaves_others(plain):
    run("triton", plain, "--output", "models")
    assert_mistake("models/vit exists; give --force to replace the files in it", "triton", plain)
    Path("models/vit/2").mkdir()
    Path("models/vit/2/model.onnx").write_text("mine")
    Path("models/vit/config.pbtxt").write_text("old")
    assert run("triton", plain, "--force", "--quiet").stdout == ""
    assert _files("models/vit") == sorted([*FILES, "2/model.onnx"])
    assert Path("models/vit/config.pbtxt").read_text() != "old"


def test_places_that_are_taken(plain):
    """Nothing is written where one of the files cannot be."""
    Path("models/vit/config.pbtxt").mkdir(parents=True)
    assert_mistake("config.pbtxt: it is a folder; remove it, or give another --name", "triton", plain, "--force")
    assert _files("models") == []
    Path("models/vit/config.pbtxt").rmdir()
    Path("models/vit/1").touch()
    assert_mistake("models/vit/1 is a file; remove it, or give another --name", "triton", plain, "--force")
    assert _files("models") == ["vit/1"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", 'x"', "a" * 101, ".hidden"])
def test_names_that_cannot_stand_in_an_address(plain, name):
    assert_mistake("give another --name", "triton", plain, "--name", name)


def test_artifacts_that_cannot_be_served(plain, tmp_path):
    build_plain(Path("optional.onnx"), HEATMAPS, "optional")
    build(Path("full.onnx"))
    Path("x.pt").touch()
    advice = "again with --flags required, or with --flags none"
    assert_mistake(advice, "triton", "optional.onnx")
    assert_mistake("again with --heatmaps, the methods to serve", "triton", "full.onnx")
    assert_mistake("x.pt is not an ONNX file", "triton", "x.pt")
    assert_mistake("there is no artifact nope.onnx", "triton", "nope.onnx")


def test_artifact_that_was_changed_is_not_served(plain):
    data = bytearray(plain.read_bytes())
    data[len(data) // 2] ^= 1
    plain.write_bytes(data)
    assert_mistake("damaged or changed since export", "triton", plain)


def test_folder_that_cannot_be_written(plain):
    Path("file").touch()
    assert_mistake("cannot write into file/vit: it is not a folder", "triton", plain, "--output", "file")


def test_nothing_is_left_where_writing_fails(plain, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    assert_mistake("No space left on device", "triton", plain)


def test_labels_and_names_of_any_letters(tmp_path):
    labels = ["two\nlines", "猫", "half \ud800", "", "tab\tted", "last"]
    path = build_plain(tmp_path / "p.onnx", labels=labels, model="a\n# b")
    assert run("triton", path, "--output", tmp_path).exit_code == 0
    lines = (tmp_path / "p/labels.txt").read_text(encoding="utf-8").split("\n")
    assert lines == ["two lines", "猫", "half \\ud800", "", "tab ted", "last", ""]
    document = json.loads((tmp_path / "p/metadata.json").read_text())["metadata"]
    assert Metadata.from_json(json.dumps(document)).labels == tuple(labels)
    assert "The model a # b, with 6 classes" in (tmp_path / "p/README.md").read_text(encoding="utf-8")
