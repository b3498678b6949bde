"""The tables at 80 columns and in a pipe: names stay whole, and the models are listed without PyTorch."""

import re
import subprocess
import sys

import pytest

from onnxplain.catalog import LIBRARIES, MODELS
from onnxplain.commands import display
from onnxplain.runtime import METHODS, PASSES
from tests.helpers.command_line import run
from tests.helpers.tiny_artifact import build

pytestmark = pytest.mark.usefixtures("folder")

WORDS = re.compile(r"[^\s,;:]+")


def _words(*arguments):
    """What is printed, by lines and by words."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines(), set(WORDS.findall(result.stdout))


@pytest.mark.parametrize("columns", ["30", "72", "80", "100"])
def test_methods_at_a_terminal_s_width(columns, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", columns)
    path = build(tmp_path / "x.onnx", resolution=dict.fromkeys(METHODS, 0.123))
    for arguments in (["methods"], ["methods", path]):
        lines, words = _words(*arguments)
        assert max(map(len, lines)) <= max(
            72, int(columns)
        )  # in a narrower terminal lines are broken, and nothing is cut
        read = set(PASSES) - {"features"}  # of which no method makes a map
        assert words >= {*METHODS, *read, "discard_ratio=0.0", "probability=0.5"}
    assert "12%" in words and "12%" not in _words("methods")[1]


def test_models_at_a_terminal_s_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines, words = _words("models")
    assert max(map(len, lines)) <= 80
    names = {row.repository or row.architecture for row in MODELS.values()}
    assert words >= {*MODELS, *names, "demo", "--prompts", *(f"{library}/<name>" for library in LIBRARIES)}
    text = re.sub(r"\s+", " ", "\n".join(lines))
    assert "MAE ViT-B/16; classes with --head timm" in text and "classes with --head or --prompts timm" in text
    assert "supervised ViT-B/16; 1000 classes" in text


@pytest.mark.parametrize(("columns", "width"), [(None, 1000), ("80", 80), ("", 1000), ("0", 1000), ("x", 1000)])
def test_the_width_in_a_pipe(columns, width, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert display.make_console().width == width


def test_only_tables_are_wider_than_the_terminal(monkeypatch):
    """Bars of progress would leave a line behind each time that they are drawn anew."""
    monkeypatch.setenv("COLUMNS", "30")
    console = display.make_console()
    console.print(display.table("a"))
    assert console.width == 30


def test_models_need_neither_pytorch_nor_onnxruntime():
    code = """
import sys
for name in ("torch", "timm", "onnxruntime", "onnxplain.runtime", "onnxplain.export"):
    sys.modules[name] = None
from onnxplain.cli import app
app(["models"])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and "dinov2" in done.stdout


def test_the_names_that_users_import():
    from onnxplain import export

    assert export.MODELS is MODELS and export.LIBRARIES is LIBRARIES and isinstance(MODELS["vit"], export.Row)
