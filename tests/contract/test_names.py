"""Mistyped names of methods, models, passes and other choices: the nearest is proposed, or what others call it."""

import re

import pytest

from onnxplain.catalog import DEMO, LIBRARIES, MODELS, find_row
from onnxplain.catalog import OTHER_NAMES as OTHER_MODELS
from onnxplain.contract.formats import DEFAULT, FORMATS, find_format
from onnxplain.contract.names import nearest, no_such
from onnxplain.contract.outputs import ALWAYS
from onnxplain.contract.precisions import check_precision
from onnxplain.runtime import METHODS, PASSES, REDUCTIONS, Explainer, OnnxplainError
from onnxplain.runtime.backends.providers import DEVICES
from onnxplain.runtime.methods.choice import OTHER_NAMES, canonical, find_method
from tests.helpers.command_line import assert_mistake
from tests.helpers.method_inputs import metadata_of
from tests.helpers.tiny_artifact import build

pytestmark = pytest.mark.usefixtures("folder")

ALL = tuple(PASSES)
ON = ", ".join(("auto", *sorted(DEVICES)))


@pytest.mark.parametrize("given", ["Grad-Rollout", "GRAD_ROLLOUT", "grad rollout", "grad_rollout "])
def test_methods_whatever_the_spelling(given):
    assert find_method(given, metadata_of(ALL)).name == "grad_rollout"


def test_an_explanation_by_another_spelling(artifact):
    assert Explainer(artifact, "cpu").explain("cat.png", method="Raw-Attention").method == "raw_attention"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("rolout", "'rollout'"),
        ("Le-Grad", "'legrad'"),
        ("smooth_grad", "'smoothgrad'"),
        ("transformer-attribtuion", "'transformer_attribution'"),
        ("GradCAM", "'attention_gradcam'"),
        ("grad-cam", "'attention_gradcam'"),
        ("lrp", "'transformer_attribution' or 'attnlrp' or 'full'"),
        ("attention-rollout", "'rollout'"),
        ("saliency", "'gradient'"),
        ("Integrated-Gradient", "'integrated_gradients'"),
        ("ig", "'integrated_gradients'"),
        ("reciprocam", "'vit_reciprocam'"),
    ],
)
def test_methods_that_may_be_meant(given, meant):
    with pytest.raises(OnnxplainError) as caught:
        find_method(given, metadata_of(ALL))
    assert str(caught.value).startswith(f"there is no method {given!r}; did you mean {meant}")


def test_other_names_are_none_of_ours_and_mean_some_of_ours():
    for name, meant in OTHER_NAMES.items():
        assert name == canonical(name) and name not in METHODS and set(meant) <= set(METHODS) and meant
    for name, meant in OTHER_MODELS.items():
        assert name == name.casefold() and name not in MODELS and meant
        assert all(find_row(item) for item in meant)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("DINOv2", "did you mean 'dinov2'"),
        ("dino-v2", "did you mean 'dinov2'"),
        ("Demo", "did you mean 'demo'?"),
        ("ViT-B/16", "did you mean 'vit'?"),
        ("tim/vit_small", "did you mean 'timm/vit_small'?"),
        ("google/vit-base-patch16-224", "did you mean 'hf/google/vit-base-patch16-224'?"),
        ("vit_base_patch16_224", "did you mean 'timm/vit_base_patch16_224'?"),
        ("resnet50", "there are: vit, vit-reg, "),
    ],
)
def test_models(given, meant):
    with pytest.raises(OnnxplainError) as caught:
        find_row(given)
    assert str(caught.value).startswith(f"there is no model {given!r}; {meant}")


def test_models_that_there_are():
    for name in (*MODELS, DEMO, *(f"{library}/x" for library in LIBRARIES)):
        assert find_row(name).name == name


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("there is no model 'deti'; did you mean 'deit'", ["export", "--model", "deti"]),
        ("there is no model 'deti'; did you mean 'deit'", ["probe", "--model", "deti", "--data", "."]),
        ("no pass 'Gradient'; did you mean 'gradient'", ["export", "--model", "vit", "--passes", "Gradient"]),
        ("no pass 'lrp'; did you mean 'relevance' or", ["export", "--model", "vit", "--passes", "lrp"]),
        ("did you mean 'gradient'?", ["export", "--model", "vit", "--passes", "attention_gradient"]),
        (
            f"no format 'ONNX'; there are: {', '.join(FORMATS)}; did you mean 'onnx'",
            ["export", "--model", "vit", "--format", "ONNX"],
        ),
        (
            f"no device 'gpu'; there are: {ON}; did you mean 'cuda'?",
            ["explain", "ARTIFACT", "cat.png", "--device", "gpu"],
        ),
        (
            f"no device 'CPU'; there are: {ON}; did you mean 'cpu'?",
            ["explain", "ARTIFACT", "cat.png", "--device", "CPU"],
        ),
        (
            "must be one of mean, max, min, got 'Max'; did you mean 'max'?",
            ["explain", "ARTIFACT", "cat.png", "--method", "rollout", "--head-fusion", "Max"],
        ),
        (
            "must be one of black, mean, got 'blakc'; did you mean 'black'?",
            ["explain", "ARTIFACT", "cat.png", "--method", "integrated-gradients", "--baseline", "blakc"],
        ),
    ],
)
def test_on_the_command_line(artifact, message, arguments):
    """Before PyTorch is imported, where that is needed: nothing else would be that quick."""
    assert_mistake(message, *(artifact if item == "ARTIFACT" else item for item in arguments))


def test_nearest():
    assert nearest("TABBI", ["tabby", "cat", "Tabbi"]) == ["Tabbi", "tabby"]
    assert nearest("", ["tabby"]) == [] and nearest("zzz", ["tabby"]) == []
    assert nearest("graph", ["photographer", "cat"]) == ["photographer"]
    assert no_such("x", "b", ["a", "c"]) == "there is no x 'b'; there are: a, c"
    assert no_such("x", "B", ["a", "c"], {"b": ("c",)}) == "there is no x 'B'; there are: a, c; did you mean 'c'?"
    assert no_such("x", "abd", ["abc", *"123456"]) == "there is no x 'abd'; did you mean 'abc'?"


# --- the outputs that tensors gives


def test_tensors_by_the_names_of_passes_and_of_outputs(artifact):
    explainer = Explainer(artifact, "cpu")
    every = explainer.tensors("cat.png", [0, 1])
    for names in (["gradient"], ["attention_gradient"], ["logits", "attention_gradient"]):
        given = explainer.tensors("cat.png", [0, 1], names)
        assert list(given) == [*ALWAYS, "attention_gradient"]
        assert (given["attention_gradient"] == every["attention_gradient"]).all()
    mean = explainer.tensors("cat.png", 0, ["attention_mean"])["attention_mean"]
    assert mean == pytest.approx(every["attention"].mean(2), abs=1e-6)
    assert set(explainer.tensors("cat.png", 0, REDUCTIONS)) == {*ALWAYS, *REDUCTIONS}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["atention"], "no pass atention; it has: attention; did you mean 'attention'"),
        (["attention_gradient"], "no pass attention_gradient; it has: attention"),
        ("attention", r"write \['attention'\]"),
    ],
)
def test_tensors_that_there_are_not(tmp_path, names, message, folder):
    explainer = Explainer(build(tmp_path / "x.onnx", passes=("attention",)), "cpu")
    with pytest.raises(OnnxplainError, match=message):
        explainer.tensors("cat.png", 0, names)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_precision(["int8"], DEFAULT), "there is no precision ['int8']; there are: float32, "),
        (lambda: find_format(["onnx"]), "there is no format ['onnx']; there are: onnx, "),
    ],
)
def test_names_that_are_no_text(check, message):
    with pytest.raises(OnnxplainError, match=re.escape(message)):
        check()
