"""What tests of refused exports share."""

from dataclasses import replace

import pytest

from onnxplain.export.formats.table import WRITERS


@pytest.fixture
def kept(tmp_path):
    """A file that stood there before; fails unless it is all that is there afterwards, and as it was."""
    path = tmp_path / "artifact.onnx"
    path.write_bytes(b"before")
    yield path
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"before"


@pytest.fixture
def exporter_gives(made_once, monkeypatch):
    """Have the exporter give this ONNX model."""
    row = WRITERS["onnx"]
    return lambda file: monkeypatch.setitem(WRITERS, "onnx", replace(row, translate=lambda *_: file))
