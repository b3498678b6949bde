"""The Explainer over a model in PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from onnxplain.contract.errors import RunError
from onnxplain.demo.scenes import scene
from onnxplain.export import explainer_of, load_backbone
from onnxplain.runtime import METHODS, Explainer, OnnxplainError, available_methods
from tests.helpers.export_cases import LABELS, OUTPUTS, TARGETS, build, error, preprocessing, reference
from tests.helpers.quick_export import export_unchecked
from tests.helpers.tiny_timm import load_tiny
from tests.reference import variants

IMAGE = scene(10_000).image
PASSES = ("gradient", "relevance", "pixel_attnlrp")


@pytest.fixture(scope="module")
def demo():
    return load_backbone("demo")


@pytest.fixture(scope="module")
def explainer(demo):
    return explainer_of(demo)


def _of_own(name="plain", **options):
    model = build(name)
    return model, explainer_of(model, labels=LABELS, preprocessing=preprocessing(model), **options)


@pytest.mark.slow
def test_maps_are_those_of_the_artifact(demo, tmp_path):
    file = Explainer(export_unchecked(demo, tmp_path / "demo.onnx", passes=PASSES), "cpu")
    explainer = explainer_of(demo, passes=PASSES)
    assert explainer.metadata == file.metadata
    methods = [method.name for method in available_methods(file.metadata) if method.in_graph]
    given = explainer.explain_all(IMAGE, [3, -1], methods=methods)
    for method, results in file.explain_all(IMAGE, [3, -1], methods=methods).items():
        for result, expected in zip(given[method], results, strict=True):
            assert (result.target, result.label) == (expected.target, expected.label)
            assert result.score == pytest.approx(expected.score, rel=1e-4)
            off = np.abs(result.heatmap - expected.heatmap).max() / np.abs(expected.heatmap).max()
            assert off <= (0.01 if "relevance" in METHODS[method].passes else 1e-4), method


def test_methods_of_many_runs(explainer):
    (result,) = explainer.explain_many([IMAGE], 4, "integrated_gradients", steps=3)
    gradients = explainer.artifact.run(np.zeros((1, 3, 96, 96), np.float32), [4], ["pixel_gradient"])["pixel_gradient"]
    assert result.heatmap.shape == (96, 96) and np.ptp(result.heatmap) > 0 and gradients.shape == (1, 1, 3, 96, 96)


@pytest.mark.parametrize("name", ["registers", "mean_pool_non_square"])
def test_float64_is_the_reference_implementation(name):
    model, explainer = _of_own(name, dtype="float64")
    pixels = variants.pixels(model, 2)
    given = explainer.artifact.run(pixels.numpy(), TARGETS, OUTPUTS)
    expected = reference(copy.deepcopy(model).double(), pixels)
    assert given.keys() == {*expected, "class_index"} and given["class_index"].tolist() == [TARGETS] * 2
    for output, exact in expected.items():
        assert given[output].dtype == np.float64
        assert error(given[output], exact).max() <= 1e-8, output
    assert explainer.explain(IMAGE).precision == explainer.metadata.precision == "float64"


def test_parameters_are_shared_and_the_model_is_as_it_was():
    model = build("plain").train()
    before = copy.deepcopy(model.state_dict())
    options = {"labels": LABELS, "preprocessing": preprocessing(model)}
    shared, double = (explainer_of(model, dtype=dtype, **options) for dtype in ("float32", "float64"))
    assert all(module.training for module in model.modules())
    assert all(tensor.dtype == torch.float32 and tensor.requires_grad for tensor in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [*map(id, shared.artifact.graph.model.parameters())] == [*map(id, model.parameters())]
    assert all(tensor.dtype == torch.float64 for tensor in double.artifact.graph.model.parameters())
    pixels = variants.pixels(model, 1).numpy()
    with torch.no_grad():
        model.head.bias += 1
    for explainer, change in ((shared, 1), (double, 0)):
        logits = explainer.artifact.run(pixels, [0], ())["logits"]
        np.testing.assert_allclose(logits, model.eval()(torch.tensor(pixels)).detach() + change - 1, atol=1e-5)


def test_weights_of_another_dtype_are_converted():
    model = build("plain").bfloat16()
    explainer = explainer_of(model, dtype="float32", labels=LABELS, preprocessing=preprocessing(model))
    assert next(model.parameters()).dtype == torch.bfloat16
    pixels = variants.pixels(model, 1).float()
    given = explainer.artifact.run(pixels.numpy(), [0], ())["logits"]
    np.testing.assert_allclose(given, copy.deepcopy(model).float()(pixels).detach(), atol=1e-5)


def test_arguments_are_those_of_export():
    _, explainer = _of_own(passes=["gradient"], activation="sigmoid", top_k=2)
    assert explainer.metadata.passes == ("attention", "gradient") and explainer.metadata.activation == "sigmoid"
    assert len(explainer.explain(IMAGE).predictions) == 2
    _, explainer = _of_own(passes=["relevance"], alpha=2)
    assert explainer.metadata.rules["beta"] == 1 and explainer.metadata.model == "VisionTransformer"
    features = explainer_of(load_tiny(random_init=True, num_classes=7))
    assert len(features.metadata.labels) == 7


def test_it_cannot_be_pickled(explainer):
    with pytest.raises(OnnxplainError, match=r"<Explainer of 'demo', 10 classes, in memory on cpu> cannot be pickled"):
        pickle.dumps(explainer)


def test_a_run_that_fails(explainer, monkeypatch):
    monkeypatch.setattr(
        type(explainer.artifact.graph), "compute", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory\nmore"))
    )
    with pytest.raises(RunError, match=r"PyTorch failed on 1 images with 1 targets \(if memory ran out") as raised:
        explainer.explain(IMAGE)
    assert "\n" not in str(raised.value)


class _CannotBeCopied(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("not\nme")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "there is no dtype 'float16'"),
        ({"dtype": ["float64"]}, r"there is no dtype \['float64'\]; there are: float32, float64"),
        ({"device": "gpu"}, "there is no device 'gpu'.*cuda"),
        ({"passes": ["gradients"]}, "there is no pass 'gradients'"),
        ({"alpha": 0.5}, "`alpha` must be at least 1"),
        ({"top_k": 0}, "`top_k` must be a whole number"),
        ({"preprocessing": None}, "a model of your own needs `preprocessing"),
        ({"model": "vit"}, "a model must be an nn.Module or what load_backbone gives, got str"),
        ({"model": _CannotBeCopied(2, 2)}, "_CannotBeCopied cannot be copied: not"),
    ],
)
def test_what_is_refused(options, message):
    model = build("plain")
    with pytest.raises(OnnxplainError, match=message) as raised:
        explainer_of(**{"model": model, "preprocessing": preprocessing(model), **options})
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without CUDA")
def test_without_cuda(demo):
    with pytest.raises(OnnxplainError, match="PyTorch cannot use `device` cuda here; use cpu"):
        explainer_of(demo, "cuda")
