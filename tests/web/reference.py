"""Writes what the Python runtime makes of images, for the tests of the JavaScript: ``python -m tests.web.reference FOLDER``.

FOLDER/preprocessing.json lists images with the model's input of each, FOLDER/explanations.json artifacts and images with
heatmaps and overlays; arrays are files of raw numbers, images are PNG.
"""

import json
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.preprocessing import CROP_MODES, CROP_ROUNDINGS, INTERPOLATIONS
from onnxplain.runtime import METHODS, Preprocessing, preprocess

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIZES = (1, 1), (2, 3), (17, 150), (201, 19), (95, 97), (224, 224)  # of images of noise, (width, height)
INPUTS = (32, 32), (37, 23)
CROP_PCTS = 0.875, 1.0, 1.3


def write_preprocessing(folder: Path) -> None:
    """Every interpolation, crop mode and rounding, on noise of odd sizes and on a photograph."""
    images = {f"{width}x{height}": _noise(width, height) for width, height in SIZES}
    images["photograph"] = Image.fromarray(skimage.data.chelsea())
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    cases = []
    for name, interpolation, crop_mode, size, crop_pct in product(
        images, INTERPOLATIONS, CROP_MODES, INPUTS, CROP_PCTS
    ):
        rounding = CROP_ROUNDINGS[len(cases) % 2]
        given = (size, *IMAGENET.values(), crop_pct, crop_mode, interpolation, rounding)
        cases.append(_case(folder, len(cases), name, images[name], Preprocessing(*given)))
    for interpolation in INTERPOLATIONS:
        settings = Preprocessing((224, 224), **IMAGENET, interpolation=interpolation)
        cases.append(_case(folder, len(cases), "photograph", images["photograph"], settings))
    (folder / "preprocessing.json").write_text(json.dumps(cases))


def _case(folder: Path, number: int, name: str, image: Image.Image, preprocessing: Preprocessing) -> dict[str, object]:
    pixels, placement = preprocess(image, preprocessing)
    return {
        "image": f"{name}.png",
        "preprocessing": asdict(preprocessing),
        "placement": asdict(placement),
        "pixels": _save(folder / f"{number}.f32", pixels),
    }


def _noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _save(path: Path, array: NDArray[np.float32]) -> str:
    path.write_bytes(np.ascontiguousarray(array).tobytes())
    return path.name


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_preprocessing(target)
