import os

import pytest
from PIL import Image

from onnxplain.demo.scenes import scene

IMAGES = 30


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder with scenes of the demo, to be read only."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in range(IMAGES):
        Image.fromarray(scene(number).image).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def folder(tmp_path, scenes, monkeypatch):
    """A working directory with `images`, which may be changed."""
    (tmp_path / "images").mkdir()
    for path in scenes.iterdir():
        os.link(path, tmp_path / "images" / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
