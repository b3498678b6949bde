"""A few scenes as image files with their ground truth; reading them needs neither scikit-learn nor PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .scenes import scene

FOLDER = Path(__file__).parent / "scenes"
TRUTH = FOLDER / "truth.json"
SEEDS = (0, 1, 2, 3)
"""Scenes of the split "test", with digits that the demo model was not trained on."""


@dataclass(frozen=True)
class Sample:
    """An image file and what it shows.

    Attributes:
        path: The file.
        labels: The digit classes.
        boxes: Of each label, (left, top, right, bottom) in pixels, right and bottom exclusive.
    """

    path: Path
    labels: tuple[int, ...]
    boxes: tuple[tuple[int, int, int, int], ...]


def samples() -> list[Sample]:
    """The scenes that come with the package."""
    return [
        Sample(FOLDER / entry["file"], tuple(entry["labels"]), tuple(map(tuple, entry["boxes"])))
        for entry in json.loads(TRUTH.read_text())
    ]


def write() -> None:
    """Draw the scenes anew (needs scikit-learn for the digits): ``python -m onnxplain.demo.samples``."""
    FOLDER.mkdir(exist_ok=True)
    entries = []
    for seed in SEEDS:
        drawn_scene = scene(seed, "test")
        file = f"scene-{seed}.png"
        Image.fromarray(drawn_scene.image).save(FOLDER / file)
        entries.append({"file": file, "labels": drawn_scene.labels, "boxes": drawn_scene.boxes.tolist()})
    TRUTH.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n")


if __name__ == "__main__":
    write()
