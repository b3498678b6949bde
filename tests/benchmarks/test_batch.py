"""The benchmark of batches: its images, what it says of memory, and one small run of the command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import batch
from onnxplain.demo import ARTIFACT
from onnxplain.demo.scenes import scene


def test_images_are_the_scenes_of_the_demo_without_loss(tmp_path: Path) -> None:
    files = batch.write_scenes(tmp_path, 3)
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    for seed, file in enumerate(files):
        assert np.array_equal(np.asarray(Image.open(file)), scene(seed).image)


def test_each_process_in_the_quarters_of_a_run() -> None:
    looks = [{1: 5.0}, {1: 6.0, 2: 1.0}, {1: 7.0, 2: 9.0}, {1: 4.0, 2: 2.0}, {1: 3.0}, {1: 8.0}, {1: 2.0}, {1: 1.0}]
    assert batch.quarters(looks) == [[1.0, 9.0, 0.0, 0.0], [6.0, 7.0, 8.0, 2.0]]


@pytest.mark.slow
def test_one_run_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    files = batch.write_scenes(tmp_path / "images", 12)
    found = batch.run(ARTIFACT, files, tmp_path, "rollout", ["--jobs", "2", "--shard-size", "6"])
    assert found.rate > 0 and found.share > 0 and 300 < found.row < 10_000
    assert found.together >= max(map(max, found.each)) > 50 and len(found.each) >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
