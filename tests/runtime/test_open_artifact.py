"""An Explainer over an artifact that is open already."""

import copy
import pickle
from io import BytesIO

import pytest

from onnxplain.runtime import Explainer, OnnxplainError
from tests.helpers.command_line import random_image
from tests.helpers.spy import assert_same
from tests.helpers.tiny_artifact import build


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), device="cpu", threads=1)


def test_it_explains_as_the_one_that_opened_the_artifact(explainer):
    again = Explainer.over(explainer.artifact)
    assert again.artifact is explainer.artifact and again.metadata is explainer.metadata and again.device == "cpu"
    assert_same(again.explain(random_image(0)), explainer.explain(random_image(0)))
    assert len(Explainer.over(explainer.artifact, top_k=2).explain(random_image(0)).predictions) == 2


def test_its_arguments_are_checked(explainer):
    with pytest.raises(OnnxplainError, match="`max_pixels` must be a whole number of at least 1, got 0"):
        Explainer.over(explainer.artifact, max_pixels=0)
    with pytest.raises(OnnxplainError, match="`top_k` must be a whole number of at least 1, got True"):
        Explainer.over(explainer.artifact, top_k=True)
    file = BytesIO()
    random_image(0).save(file, "PNG")
    with pytest.raises(OnnxplainError, match="more than the limit of 10"):
        Explainer.over(explainer.artifact, max_pixels=10).explain(file.getvalue())


def test_it_cannot_be_pickled_or_copied(explainer):
    again = Explainer.over(explainer.artifact)
    assert repr(again) == "<Explainer of 'tiny', 6 classes, in memory on cpu>"
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(OnnxplainError, match="cannot be pickled, as no file holds its model; export") as error:
            attempt(again)
        assert "\n" not in str(error.value)


def test_the_artifact_is_read_only(explainer):
    with pytest.raises(AttributeError):
        explainer.artifact = None
