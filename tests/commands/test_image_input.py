"""`export --input image`: passed on, and what the commands say and do of such a file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.command_line import assert_mistake, run
from tests.helpers.tiny_timm import TINY

pytestmark = pytest.mark.usefixtures("folder")


def test_passed_on(exporter):
    assert run("export", "--model", "vit", "--heatmaps", "rollout", "--input", "image").exit_code == 0
    assert exporter.plain[-1][-1] == "image"
    assert run("export", "--model", "deit").exit_code == 0
    assert exporter.plain[-1][-1] == "pixels"


@pytest.mark.slow
def test_from_export_to_heatmap():
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8)).save("photo.png")
    model = ["--model", f"timm/{TINY}", "--random-init"]
    assert_mistake("--heatmaps", "export", *model, "--input", "image", "--output", "a.onnx")
    options = ["--heatmaps", "rollout,attention_gradcam", "--input", "image", "--output", "a.onnx"]
    result = run("export", *model, *options)
    assert result.exit_code == 0, result.stderr
    assert "images of any size, which the graph makes 160 x 160 pixels" in " ".join(
        run("info", "a.onnx").stdout.split()
    )
    assert run("explain", "a.onnx", "photo.png", "--all-methods", "--output", "maps").exit_code == 0
    assert [Image.open(path).size for path in Path("maps").glob("*.png")]
