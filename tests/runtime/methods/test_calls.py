"""Methods with parameters behind their names: the same as with parameters of their own, from one run of the graph."""

from dataclasses import replace

import numpy as np
import pytest

from onnxplain.contract.errors import MethodError
from onnxplain.runtime import Explainer, comparison_sheet
from onnxplain.runtime.methods.choice import call_method
from tests.helpers.command_line import random_image
from tests.helpers.tiny_artifact import build

TEXTS = {
    "rollout": ("rollout", {}),
    "rollout:head_fusion=max": ("rollout", {"head_fusion": "max"}),
    "rollout:head_fusion=max,discard_ratio=0.9": ("rollout", {"head_fusion": "max", "discard_ratio": 0.9}),
    "raw_attention:layer=0": ("raw_attention", {"layer": 0}),
    "legrad": ("legrad", {}),
}


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("x") / "x.onnx"), "cpu", threads=1)


def test_variants_are_what_they_are_alone_and_share_a_run(explainer, monkeypatch):
    runs = []
    run = type(explainer.artifact).run
    monkeypatch.setattr(
        type(explainer.artifact), "run", lambda self, *given: (runs.append(given), run(self, *given))[1]
    )
    found = explainer.explain_all(random_image(0), [2, -1], methods=list(TEXTS))
    assert list(found) == list(TEXTS) and len(runs) == 1
    for text, (name, parameters) in TEXTS.items():
        for item, alone in zip(
            found[text], explainer.explain(random_image(0), [2, -1], name, **parameters), strict=True
        ):
            assert np.array_equal(item.tokens, alone.tokens) and item.method == name
            assert item.parameters == alone.parameters and item.parameters.items() >= parameters.items()
    assert not np.array_equal(found["rollout"][0].tokens, found["rollout:head_fusion=max"][0].tokens)
    one = explainer.explain(random_image(0), 2, "Rollout: discard-ratio=0.9 , head-fusion=max")
    assert np.array_equal(one.tokens, found["rollout:head_fusion=max,discard_ratio=0.9"][0].tokens)
    assert one.title == "rollout (head_fusion=max, discard_ratio=0.9)"
    assert comparison_sheet(found).width > comparison_sheet({"legrad": found["legrad"]}).width


def test_keys_are_written_in_one_way(explainer):
    found = explainer.explain_all(random_image(0), 2, methods=["GRAD-rollout:start-layer=1,discard_ratio=0.50"])
    assert list(found) == ["grad_rollout:discard_ratio=0.5,start_layer=1"]
    again = explainer.explain_all(random_image(0), 2, methods=list(found))
    assert list(again) == list(found)


def test_parameters_beside_the_text(explainer):
    call = call_method("rollout:head_fusion=max", {"discard_ratio": 0.5, "head_fusion": "max"}, explainer.metadata)
    assert call.arguments == {"head_fusion": "max", "discard_ratio": 0.5, "start_layer": 0}
    assert call.key == "rollout:head_fusion=max"


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["rollout:head_fusion=sum"], "head_fusion must be one of mean, max, min, got 'sum'"),
        (["rollout:start_layer=1.5"], "start_layer must be a layer number counted from 0"),
        (["rollout:discard_ratio=much"], "discard_ratio must be a number of at least 0 and below 1, got 'much'"),
        (["rollout:discard_ratio=nan"], "discard_ratio must be a number of at least 0 and below 1, got nan"),
        (["rollout:norm=l2"], "method rollout has no parameter norm; it has: head_fusion"),
        (["rollout:"], "a method with parameters is written as name:parameter=value"),
        (["rollout:head_fusion"], "a method with parameters is written as"),
        (["rollout:head_fusion="], "a method with parameters is written as"),
        (["rollout:head_fusion=max,head_fusion=min"], "a method with parameters is written as"),
        (["rolout:head_fusion=max"], "there is no method 'rolout'; did you mean 'rollout'"),
        (["rollout", "Rollout"], "method rollout is given twice"),
        (["rollout:head_fusion=max", "Rollout:Head-Fusion=max"], "method rollout:head_fusion=max is given twice"),
        (["rollout:head_fusion=max"] * 2, "method rollout:head_fusion=max is given twice"),
        (
            {"rollout:head_fusion=max": {"head_fusion": "min"}},
            "`head_fusion` of rollout is given twice, as 'max' and 'min'",
        ),
    ],
)
def test_mistakes(methods, message, explainer):
    with pytest.raises(MethodError) as caught:
        explainer.explain_all(random_image(0), methods=methods)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_plain_artifact_has_its_own_parameters_only(explainer):
    fixed = {"rollout": {"head_fusion": "max"}}  # what is not named has its default
    metadata = replace(explainer.metadata, heatmaps=fixed)
    call = call_method("rollout:head_fusion=max", {}, metadata)
    assert call.key == "rollout:head_fusion=max" and call.outputs == ("heatmap_rollout",)
    with pytest.raises(MethodError, match="was exported with `head_fusion` max, got min"):
        call_method("rollout:head_fusion=min", {}, metadata)
