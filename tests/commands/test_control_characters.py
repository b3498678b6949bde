"""Control characters in labels, names and errors never reach the terminal; letters of all scripts do."""

import io
import json
import re
import tracemalloc
import unicodedata
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands import display, probe, reporting
from onnxplain.commands.printable import CONTROL, printable
from onnxplain.runtime import Explainer, Metadata, comparison_sheet
from onnxplain.runtime.backends.optimized_cache import CacheWarning
from tests.helpers.command_line import random_image
from tests.helpers.tiny_artifact import LABELS, build

TITLE, RED, TURNED = "\x1b]0;owned\x07", "\x9b31m", "\u202etxet"
BAD = f"{TITLE}{RED}{TURNED}\r\b\n\x7f\u2028\u2029\u2066\u200f\u061c\ud800"
ESCAPED = r"\x1b]0;owned\x07\x9b31m\u202etxet\r\x08\n\x7f\u2028\u2029\u2066\u200f\u061c\ud800"
GOOD = "مرحبا שלום 猫 नमस्ते 👩‍👧 e\u0301 ½"


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    """Whoever made it tried everything."""
    monkeypatch.chdir(tmp_path)
    document = json.loads(Metadata(**_fields()).to_json())
    rows = [{"output": f"o{BAD}", "check": f"c{BAD}", "value": 0, "limit": 1, "passed": True}]
    document["parity"] = {"passed": True, "checks": rows, "notes": [f"n{BAD}", "second"]}
    return build(tmp_path / "tiny.onnx", metadata=json.dumps(document))


def _fields():
    settings = Explainer(build(Path("plain.onnx")), "cpu").metadata
    names = ("preprocessing", "activation", "patch_grid", "prefix_tokens", "readout", "layers", "heads")
    names += ("token_width", "hidden_width", "passes")
    return {name: getattr(settings, name) for name in names} | {
        "model": f"m{BAD}",
        "checkpoint": {"source": f"s{BAD}", "sha256": f"h{BAD}"},
        "labels": [f"{number}{BAD}" for number in range(len(LABELS) - 1)] + [GOOD],
    }


def _run(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    for text in (result.stdout, result.stderr):
        assert set(CONTROL.findall(text)) <= {"\n"}, text
    return result


def test_what_is_replaced():
    """By what Unicode says of each, but the marks of direction and what XML does not allow."""
    turning = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)}
    replaced = {chr(code) for code in range(0x110000) if CONTROL.match(chr(code))}
    assert replaced == turning | {"\ufffe", "\uffff"} | {
        chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp")
    }
    assert printable(BAD) == ESCAPED and printable(GOOD) == GOOD


def test_info(artifact):
    result = _run("info", artifact)
    assert result.exit_code == 0, result.output
    for mark in "msoh0":
        assert mark + ESCAPED in result.stdout
    assert re.search(rf"^ *n{re.escape(ESCAPED)} *\n *second *$", result.stdout, re.MULTILINE)


def test_explain(artifact):
    name = f"p{BAD[:-1]}.png"  # no half of a letter: pictures' names come from the file system
    random_image(0).save(name)
    result = _run("explain", artifact, name, "--target", 0, "--target", 5, "--output", "out")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"p{ESCAPED[:-6]}.png, 60 x 40 pixels")
    assert any(line.startswith(f"0{ESCAPED} (class 0), score ") for line in lines)
    assert any(line.startswith(f"{GOOD} (class 5), score ") for line in lines)
    # Of the tables and the lines after them each is one line, whatever their labels hold: a row for each class, ...
    assert sum(bool(re.match(r" *[1-5]  ", line)) for line in lines) == 5
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        f"p{BAD[:-1]}.png.tiny.transformer_attribution.{slug}.png"
        for slug in ("0-0-owned-31mtxet", display.slug(GOOD) or "class-5")
    )
    assert _run("explain", artifact, name, "--all-methods").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "tiny.onnx", f"{BAD[:-1]}.png"],
        ["explain", f"{BAD[:-1]}.onnx", "p.png"],
        ["explain", "tiny.onnx", "p.png", "--target", TITLE],
        ["explain", "tiny.onnx", "p.png", "--target", f"0{TITLE}"],
        ["explain", "tiny.onnx", "p.png", "--method", RED],
        ["explain", "tiny.onnx", "p.png", "--device", TURNED],
        ["explain", "tiny.onnx", "p.png", "--masks", TURNED],
        ["explain", "tiny.onnx", "p.png", f"--{TITLE}"],
        ["export", "--model", TURNED, "--output", "x.onnx"],
        ["export", "--model", "demo", "--output", f"{TITLE}/x.pt"],
        [TITLE],
    ],
)
def test_errors(arguments, artifact):
    random_image(0).save("p.png")
    result = _run(*arguments)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ")
    assert "\\" in result.stderr


def test_warnings(capsys):
    with reporting.warnings_shown():
        warnings.warn(f"cannot write {BAD}", CacheWarning, stacklevel=1)
    written = capsys.readouterr().err
    assert set(CONTROL.findall(written)) == {"\n"} and written.startswith(r"warning: cannot write \x1b]0;owned\x07")


def test_terminal(artifact, monkeypatch):
    """Where there are colours and a line that says what is being done: all else but rich's own sequences is escaped."""
    console = display.PlainConsole(force_terminal=True, width=200, file=io.StringIO())
    monkeypatch.setattr(display, "make_console", lambda *_: console)
    folder = Path(f"[/folder]{TURNED}")  # brackets are markup to rich, which would be an error
    folder.mkdir(parents=True)
    name = folder / f"{TITLE[:3]}.onnx"
    name.write_bytes(artifact.read_bytes())
    for arguments in (("info", name), ("explain", name, "p.png", "--method", "rollout")):
        random_image(0).save("p.png")
        result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
    with console.status(f"loading {BAD}") as status:
        status.update(f"reading {BAD}")
    written = console.file.getvalue()
    assert written.count("\x1b[") > 20 and rf"loading [/folder]{TURNED}".replace("\u202e", r"\u202e") in written
    assert rf"reading {ESCAPED}" in written
    own = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert set(CONTROL.findall(own)) <= {"\n", "\r"} and own.count(ESCAPED) > 8


def test_probe_report():
    """Whose classes are the names of folders."""
    console = display.PlainConsole(width=200, file=io.StringIO())
    report = SimpleNamespace(
        held_out=[1, 2], correct=[1, 1], labels=[f"a{BAD}", GOOD], fitted=9, computed=9, cache=Path(f"x{TITLE}"), C=1.0,
        tried={1.0: 0.5}, accuracy=2 / 3, repeated=0,
    )  # fmt: skip
    probe._show(console, report)
    written = console.file.getvalue()
    assert set(CONTROL.findall(written)) == {"\n"} and f"a{ESCAPED}" in written and GOOD in written


def _sheet(folder, label):
    path = build(folder / "label.onnx", passes=("attention",), labels=[label, *LABELS[1:]])
    return np.asarray(comparison_sheet(Explainer(path, "cpu").explain_all(Image.new("RGB", (60, 40)), [0])))


def test_sheet(tmp_path):
    """Its letters are ASCII, whose control characters have no shape; of a label as long as a book it reads a line."""
    np.testing.assert_array_equal(_sheet(tmp_path, "a\x1b[31m\x07b\r"), _sheet(tmp_path, "a [31m b"))
    tracemalloc.start()
    long = _sheet(tmp_path, "word " * 2000)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    np.testing.assert_array_equal(long, _sheet(tmp_path, "word " * 90))
