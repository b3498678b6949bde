"""What docs/runtimes.md shows of Python runs as it stands there, and gives the heatmaps of the Explainer."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxplain.demo.samples import samples
from onnxplain.export import export_model, load_backbone
from onnxplain.runtime import Explainer

TEXT = (Path(__file__).parents[2] / "docs" / "runtimes.md").read_text()
SECTION = TEXT.partition("## Python without onnxplain\n")[2].partition("\n## ")[0]
OF_IMAGES, OF_PIXELS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
REPORTED = "\n".join(line.removeprefix(">").removeprefix(" ") for line in TEXT.splitlines() if line.startswith(">"))
REPRODUCTION = re.search(r"```python\n(.*?)```", REPORTED, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one, with an image that is no square."""
    monkeypatch.chdir(tmp_path)
    scene = Image.open(samples()[0].path)
    scene.resize((scene.width * 2, scene.height * 3)).save("scene.png")
    return tmp_path


def _run(code: str) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(code, scope)
    return scope


def _assert_close(given: np.ndarray, expected: np.ndarray) -> None:
    assert given.shape == expected.shape
    assert np.abs(given - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_python_with_an_artifact_that_takes_images(folder: Path) -> None:
    export_model(load_backbone("demo"), "demo.image.onnx", heatmaps=["legrad"], input="image")
    scope = _run(OF_IMAGES)
    result = Explainer("demo.image.onnx", "cpu").explain("scene.png")
    assert scope["class_index"] == result.target
    _assert_close(scope["heatmap"][0, 0], result.heatmap)
    assert Image.open("heatmap.png").size == Image.open("scene.png").size


@pytest.mark.slow
def test_python_with_an_artifact_that_takes_pixels(folder: Path) -> None:
    export_model(load_backbone("demo"), "demo.heat.onnx", heatmaps=["legrad"])
    scope = _run(OF_PIXELS)
    result = Explainer("demo.heat.onnx", "cpu").explain("scene.png")
    assert scope["class_index"] == result.target
    _assert_close(scope["heatmap"][0, 0], result.input_heatmap)


def test_the_reproduction_for_openvino_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert REPRODUCTION is not None
    _run(REPRODUCTION[1])
    assert capsys.readouterr().out.endswith("[[1. 2.]\n [3. 4.]]\n")
