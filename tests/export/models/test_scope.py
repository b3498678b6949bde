"""Models of timm that are no isotropic Vision Transformers: one line that says why, nothing written."""

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onnxplain import cli

REASONS = {
    "swin_tiny_patch4_window7_224": "attention layer 1 of 12 stays within windows of 49 tokens",
    "pvt_v2_b0": "attention layer 1 of 8 goes from 3136 to 49 tokens",
    "levit_128s": "attention layer 3 of 11 goes from 49 to 196 tokens",
    "convnext_atto": "no attention found in the model",
    "resnet10t": "no attention found in the model",
}


@pytest.mark.parametrize("name", REASONS)
def test_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest makes it speak, see conftest
    file = tmp_path / "artifact.onnx"
    result = CliRunner().invoke(cli.app, ["export", "--model", f"timm/{name}", "--random-init", "--output", str(file)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1, result.stderr
    line = result.stderr.strip()
    assert line.startswith(f"error: {name} cannot be explained: ") and REASONS[name] in line and len(line) < 300
    assert not list(tmp_path.iterdir())
