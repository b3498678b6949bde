"""The code in docs/evaluation.md that hands an Explainer to Quantus runs as it stands there."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxplain.export import load_backbone
from tests.helpers import quantus_stand_in
from tests.helpers.quick_export import export_unchecked

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "evaluation.md").read_text().partition("## Quantus\n")[2].partition("\n## ")[0]
QUANTUS = [0.13500, 0.0010470, 0.033645, 0.00014935]
"""Of each image the mean over the curve, from this code with Quantus 0.6.0 itself."""


@pytest.mark.slow
def test_quantus(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    export_unchecked(load_backbone("demo"), tmp_path / "artifacts" / "demo.onnx", passes=["pixel_gradient"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "quantus", quantus_stand_in)
    names = {}
    exec(code, names)
    assert names["classes"].tolist() == [7, 4, 8, 4]
    np.testing.assert_allclose(np.mean(names["scores"], axis=1), QUANTUS, rtol=0.02)
