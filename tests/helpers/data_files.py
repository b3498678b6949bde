"""Images, masks and lists of them, as data sets have them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 4, 6
"""(height, width) of the images."""


def write_image(path: Path, values=None) -> None:
    """An image file; of these values if they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 100, np.uint8) if values is None else np.asarray(values, np.uint8)).save(path)


def write_coco(path: Path, images=("a.png", "b.png"), annotations=(), categories=("cat", "dog"), changes=None) -> None:
    """A file of COCO; IDs of images and categories are counted from 1."""
    content = {
        "images": [
            {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for number, name in enumerate(images, start=1)
        ],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | (changes or {})))
