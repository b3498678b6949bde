"""The code in docs/evaluation.md runs as it stands there."""

import re
from pathlib import Path

import pytest

from onnxplain.export import load_backbone
from tests.helpers.quick_export import export_unchecked

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as a checkout is after `make demo`."""
    path = tmp_path_factory.mktemp("checkout")
    (path / "artifacts").mkdir()
    export_unchecked(load_backbone("demo"), path / "artifacts" / "demo.onnx", passes=["attention", "layer_gradient"])
    (path / "demo").symlink_to(ROOT / "demo")
    return path


def test_an_evaluation_from_python(folder, monkeypatch, capsys):
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.DOTALL)
        if "import METRICS" in block
    )
    monkeypatch.chdir(folder)
    names = {}
    exec(code, names)
    assert "scene-0.png" not in capsys.readouterr().out and (folder / "report" / "report.html").is_file()
    assert {method for _, _, method in names["scores"]} >= {"legrad", "rollout", "random", "other_class:legrad"}
