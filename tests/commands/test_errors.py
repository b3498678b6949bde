"""Mistakes whose messages need care: long ones, reports of another form, and what libraries print by themselves."""

import errno
import json
import os
import subprocess
import sys
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands import products, reporting, text_files
from onnxplain.commands.new_file import write_new
from onnxplain.export.models.checkpoints import config_of
from onnxplain.export.models.heads import read_head
from onnxplain.runtime import Explainer, Metadata, OnnxplainError, load_image, resolve_target
from tests.fuzz.artifacts import forged
from tests.helpers.messages import message_of
from tests.helpers.tiny_artifact import LABELS, build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx")


_message = partial(message_of, most=600)


def test_brackets_without_end(tmp_path):
    brackets = "[" * 200_000
    (tmp_path / "config.json").write_text(brackets)
    save_file({"weight": torch.zeros(2, 3)}, tmp_path / "head.safetensors", {"labels": brackets})
    assert "config.json is not JSON: " in _message(config_of, tmp_path)
    assert "must be a JSON list: " in _message(read_head, tmp_path / "head.safetensors")
    with pytest.raises(OnnxplainError, match="cannot read labels from "):
        text_files.read_texts("labels", tmp_path / "config.json")


@pytest.mark.parametrize("target", ["9" * 5000, "-" + "9" * 5000, 10**5000, -(10**400), "9" * 100], ids=range(5))
def test_targets_of_thousands_of_digits(target):
    assert "is out of range; valid are the classes 0 to 5" in _message(resolve_target, target, LABELS)


CHECK = {"output": "logits", "check": "error", "value": 0.1, "limit": 0.1, "passed": True}


@pytest.mark.parametrize(
    "parity",
    [
        {"checks": 5},
        {"checks": None},
        {"checks": [5]},
        {"checks": [{name: CHECK[name] for name in CHECK if name != "passed"}]},
        {"checks": [CHECK, CHECK | {"value": "x"}]},
        {"checks": [CHECK | {"limit": None}]},
        {"checks": [CHECK | {"passed": 1}]},
        {"notes": [1]},
        {"notes": "x"},
    ],
)
def test_reports_of_another_form(parity, artifact):
    document = json.loads(Explainer(artifact).metadata.to_json())
    Metadata.from_json(json.dumps(document | {"parity": {"checks": [CHECK], "notes": ["x"], "passed": True}}))
    message = _message(Metadata.from_json, json.dumps(document | {"parity": parity}))
    assert message.startswith("not an onnxplain artifact: metadata field 'parity' must be an object, whose checks are")


def test_a_long_message_loses_its_middle(capsys):
    reporting.print_error(f"there is no {'x' * 5000}\n; valid are a, b")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no xx") and line.endswith("x ; valid are a, b") and len(line) < 1100
    reporting.print_error("short")
    assert capsys.readouterr().err == "error: short\n"


def test_a_damaged_artifact_is_opened_once_and_nothing_is_printed(artifact, tmp_path, capfd):
    path = tmp_path / "x.onnx"
    data = artifact.read_bytes()
    path.write_bytes(forged(data.replace(b"Softmax", b"Softmix")))
    _message(Explainer, path)
    with pytest.raises(OnnxplainError):
        Explainer(path, cache=True)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("letter", ["x", "ü", "猫"])
def test_long_names_of_images(letter, artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{letter * (250 // len(letter.encode()))}.png", "short.png"]
    for name in names:
        Image.new("RGB", (60, 40)).save(name)
    for method in ("rollout", "rollout", "gmar"):
        result = CliRunner().invoke(cli.app, ["explain", str(artifact), *names, "--output", "out", "--method", method])
        assert result.exit_code == 0, result.output
    written = [path.name for path in Path("out").iterdir()]
    assert len(written) == 6 and {path.name[-4:] for path in Path("out").iterdir()} == {".png"}
    assert sum(name.startswith(f"{letter * 50}") for name in written) == 3
    assert sum(".rollout." in name for name in written) == 4


def test_an_image_whose_overlay_cannot_be_written_does_not_cost_the_others(artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (60, 40)).save(name)

    def full(write, folder, name, suffix):
        if name.startswith("b"):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / f"{name}{suffix}"))
        return write_new(write, folder, name, suffix)

    monkeypatch.setattr(products, "write_new", full)
    result = CliRunner().invoke(cli.app, ["explain", str(artifact), "a.png", "b.png", "c.png"])
    assert result.exit_code == 2
    name = "explanations/b.png.tiny.transformer_attribution.crane.png"
    assert result.stderr == f"error: b.png: cannot write {name}: No space left on device\n"
    assert "explained 2 of 3" in result.stdout and len(list(Path("explanations").glob("*.png"))) == 2


def test_arguments_that_cannot_be_read_do_not_cost_the_others(artifact, tmp_path, monkeypatch):
    """A name that no file can have, a folder that may not be read, one without pictures, a link to nothing."""
    monkeypatch.chdir(tmp_path)
    for folder in ("good", "closed", "empty"):
        Path(folder).mkdir()
    Image.new("RGB", (60, 40)).save("a.png")
    Image.new("RGB", (60, 40)).save("good/b.png")
    Path("good/c.png").symlink_to("nowhere.png")
    Path("good/d.png").mkdir()
    listed = os.scandir

    def refused(path):
        if path == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", "closed")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    given = ["x" * 300, "a.png", "closed", "good", "empty"]
    result = CliRunner().invoke(cli.app, ["explain", str(artifact), *given, "--output", "out"])
    assert result.exit_code == 2 and "explained 2 of 3 images" in result.stdout, result.output
    messages = result.stderr.splitlines()
    expected = ("xxx cannot be read: File name too long", "closed cannot be read: Permission denied")
    expected += ("there are no images in the folder empty", "there is no image file good/c.png")
    assert len(messages) == 4 and len(list(Path("out").iterdir())) == 2
    assert all(any(part in line for line in messages) for part in expected), messages
    result = CliRunner().invoke(cli.app, ["explain", str(artifact), "closed", "empty"])
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: no images: closed cannot be read: Permission denied; there are no")


@pytest.fixture
def damaged(tmp_path):
    """A picture of which libtiff itself says on standard error what is wrong."""
    path = tmp_path / "x.tif"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path, compression="tiff_deflate")
    data = bytearray(path.read_bytes())
    data[100:110] = bytes(10)
    path.write_bytes(data)
    return path


def _run(arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_what_libraries_print_is_not_shown(damaged, artifact, tmp_path):
    arguments = ["explain", artifact, damaged, "--output", tmp_path]
    shown = _run(arguments, ONNXPLAIN_DEBUG="1").stderr
    assert "ZIPDecode" in shown
    result = _run(arguments)
    lines = result.stderr.splitlines()
    assert result.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ") and str(damaged) in lines[0]


@pytest.mark.parametrize(
    ("source", "message"),
    [(b"", "is empty"), ("empty.png", "empty.png is empty"), (BytesIO(b""), "is empty, or was read to its end")],
)
def test_an_empty_image_is_called_empty(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    with pytest.raises(OnnxplainError, match=f"{message}$"):
        load_image(source)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top_k": "3"}, "`top_k` must be a whole number of at least 1, got '3'"),
        ({"top_k": 2.5}, r"`top_k` must be a whole number of at least 1, got 2\.5"),
        ({"max_pixels": True}, "`max_pixels` must be a whole number of at least 1, got True"),
        ({"path": None}, "an artifact is given by its path, got NoneType"),
        ({"path": b"tiny.onnx"}, "an artifact is given by its path, got bytes"),
    ],
)
def test_arguments_of_an_explainer_that_are_none(given, message, artifact):
    with pytest.raises(OnnxplainError, match=message):
        Explainer(**{"path": artifact, **given})


def test_an_image_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def closed(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "x.png")

    (tmp_path / "x.png").write_bytes(b"x")
    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(OnnxplainError, match=r"^.*x\.png cannot be read: Permission denied$"):
        load_image(tmp_path / "x.png")
