"""`explain --json`: a line for each picture, as docs/explain.schema.json has it, and what each of its fields says."""

import copy
import errno
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands import products
from onnxplain.commands.json_lines import JsonLines
from onnxplain.contract.precisions import PRECISIONS
from onnxplain.runtime import Explainer
from onnxplain.runtime.summary import about_image, about_map
from tests.helpers.command_line import assert_mistake, random_image, run
from tests.helpers.tiny_artifact import LABELS, build

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/explain.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
TWO = ["--method", "rollout", "--method", "gradient", "--target", "Dog", "--target", -1]

pytestmark = pytest.mark.usefixtures("folder")


def _lines(result):
    """The documents on standard output, each valid, on a line of its own in ASCII, and nothing else."""
    assert result.stdout.isascii() and result.stdout.endswith("\n")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    for document in documents:
        VALIDATOR.validate(document)
    return documents


def test_the_schema_is_one_and_leaves_nothing_open():
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["$defs"]["explained"]["properties"]["precision"]["enum"]) == set(PRECISIONS)
    objects = [part for part in _parts(SCHEMA) if part.get("type") == "object"]
    assert len(objects) == 6
    for part in objects:
        assert part["additionalProperties"] is not True
        assert set(part.get("required", ())) == set(part.get("properties", ()))


def _parts(part):
    """All objects within a JSON document."""
    if isinstance(part, dict):
        yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _parts(value)


def test_the_schema_tells_wrong_lines(artifact):
    (right,) = _lines(run("explain", artifact, "cat.png", "--json", "--save", "png16"))
    records = [(), ("predictions", 0), ("explanations", 0), ("files", 0)]
    for place in records:
        fields = _at(right, place)
        for name in fields:
            wrong = copy.deepcopy(right)
            del _at(wrong, place)[name]
            assert not VALIDATOR.is_valid(wrong), (place, name)
            wrong = copy.deepcopy(right)
            _at(wrong, place)[name] = {"of": "no type"} if name != "parameters" else []
            assert not VALIDATOR.is_valid(wrong), (place, name)
        wrong = copy.deepcopy(right)
        _at(wrong, place)["more"] = 1
        assert not VALIDATOR.is_valid(wrong), place
    assert not VALIDATOR.is_valid({**right, "error": "both"})
    assert not VALIDATOR.is_valid({**right, "digest": right["digest"][1:]})


def _at(document, place):
    for step in place:
        document = document[step]
    return document


def test_every_field(artifact):
    random_image(3, 90, 50).save("wide.png")
    result = run("explain", artifact, "wide.png", *TWO, "--json", "--top-k", 2, "--discard-ratio", "0.5")
    assert result.exit_code == 0 and result.stderr == ""
    (line,) = _lines(result)
    methods = {"rollout": {"discard_ratio": 0.5}, "gradient": {}}
    expected = Explainer(artifact, "cpu", top_k=2).explain_all("wide.png", ["Dog", -1], methods=methods)
    first = expected["rollout"][0]
    assert list(line) == list(SCHEMA["$defs"]["explained"]["properties"])
    assert (line["image"], line["artifact"], line["model"]) == ("wide.png", str(artifact), "tiny")
    assert line["digest"] == hashlib.sha256(artifact.read_bytes()[:-64]).hexdigest()
    assert (line["width"], line["height"]) == (90, 50)
    assert line.items() >= about_image(first).items() and len(line["predictions"]) == 2
    assert line["predictions"][0]["label"] == LABELS[line["predictions"][0]["index"]]
    assert line["explanations"] == [
        {"key": item.method, **about_map(item)} for items in expected.values() for item in items
    ]
    told = [(item["method"], item["label"]) for item in line["explanations"]]
    top = expected["rollout"][1].label
    assert told == [("rollout", "Dog"), ("rollout", top), ("gradient", "Dog"), ("gradient", top)]
    for item in line["explanations"]:
        left, upper, right, lower = item["upper_fifth"]
        assert 0 <= left < right <= 90 and 0 <= upper < lower <= 50
    for item, file in zip(line["explanations"], line["files"], strict=True):
        assert (file["kind"], file["key"], file["target"]) == ("figure", item["key"], item["target"])
        assert file["scale"] is None and Path(file["path"]).parts[0] == "explanations"
    assert sorted(file["path"] for file in line["files"]) == sorted(map(str, Path("explanations").iterdir()))


def test_a_method_with_several_parameters_is_told_apart(artifact):
    keys = ["rollout:head_fusion=max", "rollout", "rollout:head_fusion=min,start_layer=1"]
    options = [word for key in keys for word in ("--method", key)]
    result = run("explain", artifact, "cat.png", *options, "--discard-ratio", 0.25, "--json", "--save", "npy")
    (line,) = _lines(result)
    told = {item["key"]: item for item in line["explanations"]}
    assert list(told) == keys and {item["method"] for item in told.values()} == {"rollout"}
    assert told[keys[0]]["parameters"] == {"head_fusion": "max", "discard_ratio": 0.25, "start_layer": 0}
    assert told[keys[2]]["parameters"] == {"head_fusion": "min", "discard_ratio": 0.25, "start_layer": 1}
    assert [(file["kind"], file["key"]) for file in line["files"]] == [
        *(("figure", key) for key in keys),
        *(("map", key) for key in keys),
    ]
    explainer = Explainer(artifact, "cpu")
    for file in line["files"][3:]:
        expected = explainer.explain("cat.png", method="rollout", **told[file["key"]]["parameters"])
        np.testing.assert_array_equal(np.load(file["path"]), expected.heatmap)


def test_35_images_with_three_bad_ones(artifact):
    Path("many").mkdir()
    for number in range(35):
        random_image(number).save(f"many/{number:02}.png")
    Path("many/07.png").write_bytes(b"")
    Path("many/20.png").write_bytes(Path("many/19.png").read_bytes()[:100])
    Path("many/34.png").unlink()
    Path("many/34.png").symlink_to("nowhere.png")
    result = run("explain", artifact, "many", "--json", "--no-figures", "--method", "rollout", "--target", 3)
    lines = _lines(result)
    assert result.exit_code == 2 and [line["image"] for line in lines] == [f"many/{n:02}.png" for n in range(35)]
    assert [line["image"] for line in lines if "error" in line] == ["many/07.png", "many/20.png", "many/34.png"]
    assert result.stderr.splitlines() == [f"error: {line['error']}" for line in lines if "error" in line]
    for line in lines:
        assert line["digest"] == lines[0]["digest"] and line["artifact"] == str(artifact)
        assert "error" in line or (line["files"] == [] and len(line["explanations"]) == 1)
    assert not Path("explanations").exists()
    alone = _lines(run("explain", artifact, "many/30.png", "--json", "--no-figures", "--method", "rollout"))
    assert alone[0]["predictions"][0]["index"] == lines[30]["predictions"][0]["index"]


def test_standard_input_and_folders(artifact):
    Path("pictures/deep").mkdir()
    random_image(5).save("pictures/deep/d.png")
    arguments = ["explain", str(artifact), "-", "pictures", "--recursive", "--json", "--method", "rollout"]
    result = CliRunner().invoke(cli.app, arguments, input=Path("cat.png").read_bytes())
    lines = _lines(result)
    assert result.exit_code == 0 and result.stderr == ""
    names = ["stdin", "pictures/a.png", "pictures/b.webp", "pictures/c.JPG", "pictures/deep/d.png"]
    assert [line["image"] for line in lines] == names
    assert Path(lines[0]["files"][0]["path"]).name.startswith("stdin.tiny.rollout.")
    assert Path(lines[4]["files"][0]["path"]).parent == Path("explanations/deep")
    result = CliRunner().invoke(cli.app, [*arguments[:3], "--json"], input=b"")
    (line,) = _lines(result)
    assert line["image"] == "stdin" and result.stderr == f"error: {line['error']}\n"
    assert line["error"].startswith("stdin is empty")


def test_a_sheet_is_one_file_for_all(artifact):
    (line,) = _lines(run("explain", artifact, "cat.png", "--json", "--all-methods", "--target", 0, "--target", 1))
    expected = Explainer(artifact, "cpu").explain_all("cat.png", [0, 1])
    assert [item["method"] for item in line["explanations"][::2]] == list(expected)
    assert [item["target"] for item in line["explanations"][:4]] == [0, 1, 0, 1]
    path = "explanations/cat.png.tiny.sheet.png"
    assert line["files"] == [{"path": path, "kind": "sheet", "key": None, "target": None, "scale": None}]
    assert Path(path).is_file()
    (again,) = _lines(run("explain", artifact, "cat.png", "--json", "--sheet", *TWO))
    assert again["files"][0]["path"] == "explanations/cat.png.tiny.sheet-2.png"


def test_several_artifacts_have_a_line_each(artifact, tmp_path):
    build(tmp_path / "other.onnx", model="another")
    result = run(
        "explain", artifact, "other.onnx", "cat.png", "zero.png", "--json", "--method", "rollout", "--target", 4
    )
    lines = _lines(result)
    assert result.exit_code == 2 and [line["image"] for line in lines] == ["cat.png", "cat.png", "zero.png", "zero.png"]
    assert [line["artifact"] for line in lines] == [str(artifact), "other.onnx"] * 2
    assert [line["model"] for line in lines[:2]] == ["tiny", "another"] and all("error" in line for line in lines[2:])
    for line in lines:
        assert line["digest"] == hashlib.sha256(Path(line["artifact"]).read_bytes()[:-64]).hexdigest()
    (sheet,) = {file["path"] for line in lines[:2] for file in line["files"] if file["kind"] == "models"}
    assert Path(sheet).is_file()


def test_the_steps_of_a_sweep_are_told_apart(artifact):
    options = ["--method", "rollout", "--sweep", "discard_ratio=0:0.8:3", "--target", 2, "--target", 3]
    (strip,) = _lines(run("explain", artifact, "cat.png", "--json", *options))
    told = [(item["parameters"]["discard_ratio"], item["target"]) for item in strip["explanations"]]
    assert told == [(ratio, target) for ratio in (0, 0.4, 0.8) for target in (2, 3)]
    assert len({item["key"] for item in strip["explanations"]}) == 3
    assert [(file["kind"], file["target"]) for file in strip["files"]] == [("sweep", None)]
    (moving,) = _lines(run("explain", artifact, "cat.png", "--json", *options, "--format", "gif"))
    assert [(file["kind"], file["target"]) for file in moving["files"]] == [("sweep", 2), ("sweep", 3)]


def test_without_figures(artifact):
    assert_mistake("--sheet and --no-figures", "explain", artifact, "cat.png", "--sheet", "--no-figures")
    result = run("explain", artifact, "cat.png", "--no-figures", "--method", "rollout")
    assert result.exit_code == 0 and "highest at" in result.stdout and "wrote" not in result.stdout
    (line,) = _lines(run("explain", artifact, "cat.png", "--json", "--all-methods", "--no-figures"))
    assert line["files"] == [] and len(line["explanations"]) > 15
    assert not Path("explanations").exists()
    nowhere = ["explain", artifact, "cat.png", "--method", "rollout", "--no-figures", "--output", "text.png"]
    assert run(*nowhere).exit_code == 0
    assert_mistake("cannot write into text.png", *nowhere, "--save", "npy")


def test_nothing_is_drawn(tmp_path):
    """A map that is the same everywhere has no place; the picture is one colour."""
    random_image(0).crop((0, 0, 1, 1)).resize((30, 30)).save("flat.png")
    file = build(tmp_path / "whole.onnx", resolution={"raw_attention": 0.01})
    (line,) = _lines(run("explain", file, "flat.png", "--json", "--method", "raw_attention"))
    (item,) = line["explanations"]
    assert item["maximum"] is None and item["upper_fifth"] is None and item["resolution"] == 0.01


def test_a_line_does_not_wait_for_the_next(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    JsonLines(Path("a.onnx"), "0" * 64).failed(Path("cat.png"), "bad")
    assert json.loads(written.getvalue())["error"] == "bad"


def test_warnings_are_on_standard_error(tmp_path):
    file = build(tmp_path / "rough.onnx", resolution={"rollout": 0.5})
    result = run("explain", file, "cat.png", "pictures", "--json", "--method", "rollout")
    assert result.exit_code == 0 and len(_lines(result)) == 4
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("warning: rollout is inexact: float32 changes maps of this method by up to 50%")
    assert all(line["explanations"][0]["resolution"] == 0.5 for line in _lines(result))


def test_files_that_cannot_be_written(artifact, monkeypatch):
    def full(write, folder, name, suffix):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / f"{name}{suffix}"))

    monkeypatch.setattr(products, "write_new", full)
    result = run("explain", artifact, "cat.png", "--json", "--method", "rollout", "--target", 3)
    (line,) = _lines(result)
    message = "cat.png: cannot write explanations/cat.png.tiny.rollout.crane.png: No space left on device"
    assert result.exit_code == 2 and line["error"] == message and result.stderr == f"error: {message}\n"


def test_mistakes_that_concern_no_image_print_no_line(artifact):
    for arguments in (["nothing.onnx", "cat.png"], [artifact, "empty"], [artifact, "cat.png", "--method", "no"]):
        result = run("explain", *arguments, "--json")
        assert result.exit_code == 2 and result.stdout == "" and result.stderr.startswith("error: ")


def test_errors_name_options(artifact):
    result = run("explain", artifact, "cat.png", "--json", "--max-pixels", 10)
    (line,) = _lines(result)
    assert "--max-pixels" in line["error"] and result.stderr == f"error: {line['error']}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not text")
def test_names_that_no_terminal_takes(tmp_path):
    names = ["猫 \x1b[31m\n.png", os.fsdecode(b"\xff\xfe.png")]
    for name in names:
        random_image(0).save(name)
    file = build(tmp_path / "x.onnx", model="猫 \u202e", labels=["\x1b[31m", "猫", "c\n", "d", "e", "f"])
    result = run("explain", file, *names, "--json", "--method", "rollout", "--target", 0)
    lines = _lines(result)
    assert [line["image"] for line in lines] == names and "\x1b" not in result.stdout
    assert all(Path(line["files"][0]["path"]).is_file() for line in lines)
    assert lines[0]["model"] == "猫 \u202e" and lines[0]["explanations"][0]["label"] == "\x1b[31m"
