"""The methods of plain artifacts that another version wrote."""

import numpy as np
import pytest

from onnxplain.runtime import Explainer, available_methods
from tests.helpers.command_line import assert_mistake
from tests.helpers.messages import message_of
from tests.helpers.plain_artifact import build_plain

IMAGE = np.zeros((20, 30, 3), np.uint8)


@pytest.fixture
def unknown(tmp_path):
    return build_plain(tmp_path / "unknown.onnx", ("future", "later"))


def test_heatmaps_of_unknown_methods_are_refused(unknown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explainer, expected = Explainer(unknown, "cpu"), "methods that this version does not know: future, later; open it"
    for call in (explainer.explain, explainer.explain_all):
        assert expected in message_of(call, IMAGE)
    for command in (["info", unknown], ["methods", unknown], ["page", unknown, "--output", tmp_path / "site"]):
        assert_mistake(expected, *command)


def test_an_unknown_one_beside_a_known_one_is_left_out(tmp_path):
    explainer = Explainer(build_plain(tmp_path / "both.onnx", ("future", "rollout")), "cpu")
    assert [method.name for method in available_methods(explainer.metadata)] == ["rollout"]
    assert explainer.explain(IMAGE).method == "rollout"
