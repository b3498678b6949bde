"""Folders of handwritten digits to probe with, and what they are probed with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

TIMM = "vit_tiny_patch16_224"
SMALL = {"random_init": True, "image_size": 32}
NAMES = ("zero", "one", "two", "three")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A folder of 15 handwritten digits of each of four classes, in the middle of pictures of 96 pixels."""
    folder = tmp_path_factory.mktemp("digits")
    pictures, classes = load_digits(return_X_y=True)
    for index, name in enumerate(NAMES):
        (folder / name).mkdir()
        for number, digit in enumerate(pictures[classes == index][:15]):
            picture = Image.fromarray(np.minimum(digit.reshape(8, 8) * 16, 255).astype(np.uint8))
            canvas = Image.new("RGB", (96, 96))
            canvas.paste(picture.resize((40, 40), Image.Resampling.BICUBIC), (28, 28))
            canvas.save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def own(digits, tmp_path, monkeypatch):
    """A copy that a test may change, as ``data`` in the working directory."""
    shutil.copytree(digits, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return Path("data")


def keep_two_classes(folder):
    for name in NAMES[2:]:
        shutil.rmtree(folder / name)
