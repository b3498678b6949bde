"""Pictures of every shape are prepared as transformers' own image processors on Pillow do it, bit for bit."""

import json
from itertools import product

import numpy as np
import pytest
import transformers
from PIL import Image

from onnxplain.contract.preprocessing import INTERPOLATIONS
from onnxplain.export.models.from_transformers.images import PROCESSORS, read_preprocessing
from onnxplain.runtime import preprocess

SIZE = 42
# Resized to 48, their longer sides leave 6, 7, 8, … pixels over: odd and even halves, each way
PICTURES = [(1, 1), (2, 3), (9, 100), (100, 9), *((100 + 2 * step, 100) for step in range(9))]
PICTURES += [(90, 90 + step) for step in range(3, 12)]


def _noise(width, height):
    values = np.random.default_rng(1000 * width + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _both(folder, **settings):
    """Our preprocessing by what transformers wrote, and its own."""
    height_width = {"height": SIZE, "width": SIZE}
    given = {"crop_size": height_width, "do_center_crop": True, "resample": 3, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return read_preprocessing(transformers, folder, None), processor


def _assert_equal(preprocessing, processor):
    for shape in PICTURES:
        picture = _noise(*shape)
        expected = processor(picture, return_tensors="np")["pixel_values"][0]
        np.testing.assert_array_equal(preprocess(picture, preprocessing)[0], expected, err_msg=f"{shape}")


@pytest.mark.parametrize("kind", [kind for kind in PROCESSORS if kind != "DINOv3ViT"])  # which is on torchvision alone
def test_every_processor(kind, tmp_path):
    preprocessing, processor = _both(tmp_path, image_processor_type=f"{kind}ImageProcessor", size={"shortest_edge": 48})
    assert type(processor).__name__ == f"{kind}ImageProcessorPil"
    _assert_equal(preprocessing, processor)


@pytest.mark.parametrize(("length", "squashed"), [*product((35, 37, 41, 42, 43, 45, 47, 49, 51), (False, True))])
def test_every_remainder(length, squashed, tmp_path):
    """Cropped and padded: shorter sides than the crop's are padded with black."""
    size = {"height": length, "width": length} if squashed else {"shortest_edge": length}
    _assert_equal(*_both(tmp_path, image_processor_type="BitImageProcessor", size=size))


@pytest.mark.parametrize(
    ("size", "crop"), [((60, 50), None), ((50, 60), (42, 50)), ((49, 63), (42, 54)), ((48, 64), (45, 60))]
)
def test_sides_of_their_own(size, crop, tmp_path):
    """Height and width that differ, where one share of both is cropped."""
    sides = {"size": dict(zip(("height", "width"), size, strict=True)), "do_center_crop": crop is not None}
    if crop:
        sides["crop_size"] = dict(zip(("height", "width"), crop, strict=True))
    _assert_equal(*_both(tmp_path, image_processor_type="ViTImageProcessor", **sides))


def test_without_normalisation(tmp_path):
    settings = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 47}, "do_normalize": False}
    _assert_equal(*_both(tmp_path, **settings))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_every_filter(name, tmp_path):
    resample = int(Image.Resampling[name.upper()])
    settings = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 49}, "resample": resample}
    _assert_equal(*_both(tmp_path, **settings))
