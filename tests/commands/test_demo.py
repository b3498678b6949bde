"""`demo`: the first heatmap, without PyTorch and without export."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from onnxplain.demo import ARTIFACT
from onnxplain.demo.samples import samples
from onnxplain.demo.scenes import DIGITS
from onnxplain.runtime import Explainer
from tests.helpers.command_line import assert_mistake, read_pixels, run


def test_a_figure_for_each_digit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.exit_code == 0 and result.stderr == ""
    sample, explainer = samples()[0], Explainer(ARTIFACT, "cpu")
    for index in sample.labels:
        path = f"explanations/scene-0.png.demo.transformer_attribution.{DIGITS[index]}.png"
        assert path in result.stdout and f"{DIGITS[index]} (class {index})" in result.stdout
        expected = explainer.explain(sample.path, index).figure()
        assert np.abs(read_pixels(path).astype(int) - np.asarray(expected)).max() <= 2
    assert len(list(Path("explanations").iterdir())) == len(sample.labels)
    assert str(ARTIFACT) in result.stdout and "onnxplain[cpu,export]" in result.stdout
    assert run("demo", "--quiet", "--output", "other").stdout == ""


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    assert_mistake("cannot write into file", "demo", "--output", "file")


def test_neither_pytorch_nor_what_export_needs(tmp_path):
    code = """
import sys
for name in ("torch", "timm", "onnx", "sklearn", "onnxplain.export", "onnxplain.lrp_graph"):
    sys.modules[name] = None
from onnxplain.cli import app
app(["demo"])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "explanations").iterdir())) == len(samples()[0].labels)
