"""The demo's scenes as a data set."""

import pickle
import sys

import numpy as np
import pytest

from onnxplain.contract import OnnxplainError
from onnxplain.demo.scenes import DIGITS, scene
from onnxplain.evaluation.data.opening import open_data


def test_samples_are_the_scenes_from_seed_10000_on():
    data = open_data("demo", DIGITS)
    assert len(data) == 500 and len(set(data.names)) == 500 and data.names[2] == "scene-10002"
    sample, drawn = data[2], scene(10002, "test")
    assert sample.name == "scene-10002" and sample.labels == drawn.labels
    np.testing.assert_array_equal(sample.image, drawn.image)
    for label, (left, top, right, bottom) in zip(drawn.labels, drawn.boxes, strict=True):
        mask = sample.regions[label].mask((96, 96))
        assert mask[top:bottom, left:right].all() and mask.sum() == (bottom - top) * (right - left)


def test_classes_are_those_of_the_artifact():
    names = ["none", *reversed(DIGITS)]
    sample, drawn = open_data("demo", names, limit=1)[0], scene(10000, "test")
    assert [names[label] for label in sample.labels] == [DIGITS[digit] for digit in drawn.labels]
    assert set(sample.regions) == set(sample.labels)


def test_it_is_a_sequence_that_can_be_pickled():
    data = open_data("demo", DIGITS, limit=3)
    again = pickle.loads(pickle.dumps(data))
    assert [sample.name for sample in again] == list(data.names) == [sample.name for sample in data[0:]]
    assert data[-1].name == "scene-10002" and len(data) == 3
    with pytest.raises(IndexError):
        data[3]


def test_an_artifact_of_other_classes_is_refused():
    with pytest.raises(OnnxplainError, match=r"digits zero to nine, and the artifact has no class 'two'"):
        open_data("demo", ["zero", "one", "2"])


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(OnnxplainError, match=r"need scikit-learn: pip install 'onnxplain\[probe\]'"):
        open_data("demo", DIGITS)


def test_a_limit_below_one_is_refused():
    with pytest.raises(OnnxplainError, match=r"from 1, got 0"):
        open_data("demo", DIGITS, limit=0)
