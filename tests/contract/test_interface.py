"""What other programs are told of inputs, outputs and preprocessing."""

import json
import math
import re

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from onnxplain.contract.interface import description, inputs, outputs, preprocessing_steps
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.preprocessing import CROP_MODES, CROP_ROUNDINGS
from onnxplain.runtime import Preprocessing, preprocess
from tests.helpers.plain_artifact import build_plain, metadata_of, plain_document
from tests.helpers.tiny_artifact import build

TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool", "tensor(uint8)": "uint8"}


def _of_session(arguments, optional=False):
    return [(item.name, TYPES[item.type], tuple(item.shape), optional) for item in arguments]


@pytest.mark.parametrize("flags", ["none", "optional", "required"])
@pytest.mark.parametrize("image", ["pixels", "image"])
def test_plain_artifact_has_these_inputs_and_outputs(tmp_path, flags, image):
    _compare(build_plain(tmp_path / "p.onnx", ("rollout", "grad_rollout"), flags, image))


def test_full_artifact_has_these_inputs_and_outputs(tmp_path):
    _compare(build(tmp_path / "full.onnx"))


def _compare(path):
    session = onnxruntime.InferenceSession(path)
    metadata = metadata_of(path)
    expected = _of_session(session.get_inputs()) + sorted(
        _of_session(session.get_overridable_initializers(), optional=True)
    )
    found = [(item.name, item.type, item.shape, item.optional) for item in inputs(metadata)]
    flags = sum(item.optional for item in inputs(metadata))
    assert found[: len(found) - flags] + sorted(found[len(found) - flags :]) == expected
    assert [(item.name, item.type, item.shape, False) for item in outputs(metadata)] == _of_session(
        session.get_outputs()
    )


def test_description_is_json_with_all_metadata():
    metadata = Metadata.from_json(plain_document(("rollout",), "none"))
    document = json.loads(json.dumps(description(metadata)))
    assert Metadata.from_json(json.dumps(document["metadata"])) == metadata
    assert document["inputs"][1] == {
        "name": "target",
        "type": "int64",
        "shape": ["batch", "targets"],
        "optional": False,
    }
    assert document["outputs"][2]["shape"] == ["batch", "targets", 16, 24]


@pytest.mark.parametrize("rounding", CROP_ROUNDINGS)
@pytest.mark.parametrize("mode", CROP_MODES)
@pytest.mark.parametrize("size", [(32, 32), (16, 24)])
@pytest.mark.parametrize("share", [0.9, 1, 1.3])
def test_steps_followed_by_their_words_give_the_pixels(mode, rounding, size, share):
    given = Preprocessing(size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), share, mode, "bilinear", rounding)
    metadata = Metadata.from_json(plain_document(preprocessing=given))
    rng = np.random.default_rng(0)
    for original in [(40, 60), (61, 37), (20, 21)]:
        image = Image.fromarray(rng.integers(0, 256, (*original, 3), dtype=np.uint8))
        expected, _ = preprocess(image, given)
        assert np.abs(_follow(preprocessing_steps(metadata), image) - expected).max() < 1e-6


def _follow(steps, image):
    """Do what the sentences say, with the numbers and formulas that stand in them."""
    _, resize, cut, number, _ = steps
    height, width = image.height, image.width
    names = {"floor": math.floor, "round": round, "height": height, "width": width}
    if "shorter side" in resize:
        formula = re.search(r"longer one (floor\(.*?\)), as", resize)[1]
        shorter = int(re.search(r"shorter side is (\d+)", resize)[1])
        longer = eval(formula, {**names, "longer": max(height, width), "shorter": min(height, width)})
        to = (longer, shorter) if width <= height else (shorter, longer)
    elif "ratio" in resize:
        pair = re.search(r"one of (height / \d+) and (width / \d+)", resize)
        ratios = [eval(part, names) for part in pair.groups()]
        ratio = max(ratios) if "larger one" in resize else min(ratios)
        to = max(1, round(height / ratio)), max(1, round(width / ratio))
    else:
        to = tuple(map(int, re.search(r"to (\d+) x (\d+) pixels", resize).groups()))
    values = np.asarray(image.resize(to[::-1], Image.Resampling[re.search(r"its (\w+) filter", resize)[1].upper()]))

    size = tuple(map(int, re.search(r"cut (\d+) x (\d+) pixels", cut).groups()))
    colour = re.search(r"pad with (\[.*\]|black)", cut)[1]
    window = np.full((*size, 3), 0 if colour == "black" else json.loads(colour), np.uint8)
    formula, padding = re.search(r"beginning at (.*?) of each axis(?:.*padded at (.*?);)?", cut).groups()
    places = []
    for length, side in zip(to, size, strict=True):
        chosen = padding if padding and length < side else formula
        places.append(eval(chosen, {**names, "length": length, "size": side}))
    for y in range(size[0]):
        for x in range(size[1]):
            row, column = y + places[0], x + places[1]
            if 0 <= row < to[0] and 0 <= column < to[1]:
                window[y, x] = values[row, column]

    mean, std = (json.loads(part) for part in re.findall(r"\[.*?\]", number))
    return ((window / 255 - mean) / std).transpose(2, 0, 1)


def test_steps_of_an_image_are_left_to_the_graph():
    (step,) = preprocessing_steps(Metadata.from_json(plain_document(input="image")))
    assert "upright" in step and "the graph does the rest" in step
