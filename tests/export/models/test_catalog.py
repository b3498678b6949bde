"""The catalog of models: rows that lead to a library, read without importing it."""

import subprocess
import sys
from pathlib import Path

import pytest

from onnxplain.catalog import DEMO, LIBRARIES, MODELS, find_row
from onnxplain.export import POOLINGS

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "library", "architecture"),
    [
        ("deit", "timm", "deit_tiny_patch16_224.fb_in1k"),
        ("demo", DEMO, DEMO),
        ("hf/google/vit-base-patch16-224", "hf", "google/vit-base-patch16-224"),
        ("open_clip/ViT-B-16/laion2b_s34b_b88k", "open_clip", "ViT-B-16/laion2b_s34b_b88k"),
    ],
)
def test_the_library_and_the_name_in_it(name, library, architecture):
    row = find_row(name)
    assert (row.name, row.library, row.architecture) == (name, library, architecture)


def test_rows_are_consistent():
    for row in MODELS.values():
        assert row.library in LIBRARIES and row.pooling in POOLINGS and row.about
        assert row.repository is None or row.hf_type, "weights in transformers' format are recognised by their type"


def test_models_are_listed_without_pytorch():
    code = (
        "import sys, onnxplain.cli as cli\ntry: cli.app(['models'])\nexcept SystemExit: pass\n"
        "print('loaded:', *sorted({'torch', 'timm', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "dinov2-reg" in done.stdout and done.stdout.splitlines()[-1] == "loaded:"
