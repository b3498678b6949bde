"""What all commands share: every mistake is one line, status 2 and nothing written; how the program is started."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from onnxplain.commands import reporting
from onnxplain.runtime import METHODS, Explainer
from tests.helpers.command_line import (
    assert_mistake,
    run,
)
from tests.helpers.tiny_artifact import build

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("folder")

# --- info, methods, models


def test_info(artifact):
    out = run("info", artifact).stdout
    for text in ["tiny", "random", "6: tabby, tabby cat", "16 x 24", "bicubic", "2 x 3", "attention, gradient, relev"]:
        assert text in out
    assert f"{artifact}, {artifact.stat().st_size / 1e3:.1f} kB" in out
    assert ["logits", "error", "1e-07", "≤", "1e-05", "yes"] in [line.split() for line in out.splitlines()]
    assert ["relevance", "error", "2e-06", "≤", "1e-06", "NO"] in [line.split() for line in out.splitlines()]


def test_info_without_a_parity_report(tmp_path):
    assert "no report of a comparison" in run("info", build(tmp_path / "x.onnx", passes=("attention",))).stdout


def test_info_of_an_artifact_with_one_gamma_for_all_layers(tmp_path):
    out = run("info", build(tmp_path / "x.onnx", rules={"alpha": 1, "beta": 0, "gamma": 0.25})).stdout
    assert "alpha 1, beta 0, gamma 0.25" in out
    out = run("info", build(tmp_path / "y.onnx")).stdout
    assert "alpha 1, beta 0, gamma_conv 0, gamma_linear 0, gamma_attention 0" in out


def test_methods():
    out = run("methods").stdout
    for method in METHODS.values():
        assert all(text in out for text in (method.name, method.summary, method.reference))
    assert "discard_ratio=0.0" in out


# --- mistakes


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("No such option: --bogus", ["--bogus"]),
        ("No such command 'explian'. Did you mean 'explain'?", ["explian"]),
        ("Missing argument 'ARTIFACT'", ["explain"]),
        ("Missing argument 'IMAGE", ["explain", "ARTIFACT"]),
        ("No such option: --tarket", ["explain", "ARTIFACT", "cat.png", "--tarket", "1"]),
        ("'--start-layer': Input should be a valid integer", ["explain", "ARTIFACT", "cat.png", "--start-layer", "x"]),
        ("Missing argument 'ARTIFACT'", ["info"]),
        ("there is no artifact nope.onnx", ["info", "nope.onnx"]),
        ("there is no artifact nope.onnx", ["explain", "nope.onnx", "cat.png"]),
        ("text.png is not an ONNX file", ["info", "text.png"]),
        ("there is no image file nope.png", ["explain", "ARTIFACT", "nope.png"]),
        ("zero.png is empty", ["explain", "ARTIFACT", "zero.png"]),
        ("text.png is not an image", ["explain", "ARTIFACT", "text.png"]),
        ("cut.png cannot be read as an image", ["explain", "ARTIFACT", "cut.png"]),
        ("File name too long", ["explain", "ARTIFACT", "x" * 300]),
        ("there is no method 'foo'", ["explain", "ARTIFACT", "cat.png", "--method", "foo"]),
        ("there is no label 'tabbi'", ["explain", "ARTIFACT", "cat.png", "--target", "tabbi"]),
        ("target 6 is out of range", ["explain", "ARTIFACT", "cat.png", "--target", "6"]),
        ("target -7 is out of range", ["explain", "ARTIFACT", "cat.png", "--target", "-7"]),
        ("there is no device 'tpu'", ["explain", "ARTIFACT", "cat.png", "--device", "tpu"]),
        ("has no parameter --head-fusion", ["explain", "ARTIFACT", "cat.png", "--head-fusion", "max"]),
        ("--start-layer must be", ["explain", "ARTIFACT", "cat.png", "--start-layer", "2"]),
        ("--start-layer must be", ["explain", "ARTIFACT", "pictures", "--start-layer", "-1"]),
        ("cannot write into text.png: it is not a folder", ["explain", "ARTIFACT", "cat.png", "--output", "text.png"]),
        ("cannot write into /proc/x", ["explain", "ARTIFACT", "cat.png", "--output", "/proc/x"]),
    ],
)
def test_mistakes(artifact, message, arguments):
    assert_mistake(message, *(artifact if argument == "ARTIFACT" else argument for argument in arguments))


def test_the_value_that_typer_refuses_is_named(artifact):
    assert_mistake("'abc'", "explain", artifact, "cat.png", "--discard-ratio", "abc")


@pytest.mark.parametrize("make", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text\nlines"])
def test_artifacts_that_are_none(artifact, make):
    Path("x.onnx").write_bytes(make(artifact.read_bytes()))
    for command in (["info", "x.onnx"], ["explain", "x.onnx", "cat.png"]):
        assert_mistake("x.onnx", *command)


def test_an_image_that_is_too_elongated_is_named(artifact):
    Image.new("RGB", (400_000, 1)).save("line.png")
    assert_mistake("line.png: an image of 400000 x 1 pixels is too elongated", "explain", artifact, "line.png")


def _raise(error):
    def explain(*arguments, **options):
        raise error

    return explain


def test_interruption_and_errors_of_our_own(artifact, monkeypatch):
    monkeypatch.setattr(Explainer, "explain_all_many", _raise(KeyboardInterrupt()))
    assert_mistake("interrupted", "explain", artifact, "cat.png", status=130)
    monkeypatch.setattr(Explainer, "explain_all_many", _raise(ZeroDivisionError("division\nby zero")))
    message = "unexpected ZeroDivisionError: division by zero (run with ONNXPLAIN_DEBUG=1 for the traceback)"
    assert_mistake(message, "explain", artifact, "cat.png", status=1)
    monkeypatch.setenv(reporting.DEBUG, "1")
    assert isinstance(run("explain", artifact, "cat.png").exception, ZeroDivisionError)


def test_a_disk_that_fills_up_leaves_nothing_behind(artifact, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", _raise(OSError(28, "No space left on device", "out/x.png")))
    assert_mistake("No space left on device", "explain", artifact, "cat.png", "--output", "pictures")


# --- as it is started


def _start(*command, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=cwd)


def test_from_the_root_of_the_repository(artifact, folder):
    done = _start("cli.py", "explain", artifact, folder / "cat.png", "--target", "-2", "--output", folder / "out")
    assert (done.returncode, done.stderr) == (0, "") and len(list((folder / "out").iterdir())) == 1
    done = _start("cli.py", "explain", artifact, folder / "zero.png", "--output", folder / "other")
    assert (done.returncode, done.stdout) == (2, "") and not (folder / "other").exists()
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_as_an_installed_command(folder):
    done = _start("-c", "from onnxplain.cli import app; app()", cwd=folder)
    assert done.returncode == 0 and "Usage: onnxplain" in done.stdout


def test_help_imports_nothing_heavy():
    heavy = ["torch", "onnxruntime", "timm", "numpy", "PIL", "onnxplain.runtime.explainer", "onnxplain.export"]
    code = f"""
import sys
from onnxplain.cli import app
try:
    app(["explain", "--help"])
except SystemExit as end:
    assert not end.code
print([name for name in {heavy} if name in sys.modules])"""
    assert _start("-c", code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("torch", ["export", "--model", "demo", "--force"], "export"), ("onnxruntime", ["methods"], "cpu")],
)
def test_what_to_install(missing, command, extra):
    done = _start("-c", f"import sys; sys.modules[{missing!r}] = None; from onnxplain.cli import app; app({command!r})")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and f"pip install 'onnxplain[{extra}]'" in done.stderr
