"""Logits and maps that are NaN or infinite are errors that say which, and cost only the picture they are of."""

import warnings

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime import METHODS, Explainer, Metadata, Preprocessing
from onnxplain.runtime.explanation import probabilities
from tests.helpers.messages import message_of
from tests.helpers.tiny_artifact import LABELS, SIZE, build, save

CAUSE = "; weights of the artifact may be damaged, or numbers arise on the way that are too large for float32"
GREY, WHITE = (Image.new("RGB", (50, 40), (value,) * 3) for value in (128, 255))


@pytest.fixture(autouse=True)
def no_warnings():
    """Whoever embeds the runtime gets the error, and no warning of NumPy before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture
def broken(tmp_path):
    """An artifact with one of its constants set to a value, and its metadata changed."""

    def make(name, value, **changes):
        path = build(tmp_path / "tiny.onnx", **changes)
        model = onnx.load(path)
        (constant,) = (item for item in model.graph.initializer if item.name == name)
        array = numpy_helper.to_array(constant).copy()
        array[...] = value
        constant.CopyFrom(numpy_helper.from_array(array, name))
        save(model, path)
        return Explainer(path, device="cpu", threads=1)

    return make


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits(broken, value, activation):
    explainer = broken("weight", value, activation=activation)
    expected = "the logits are not finite: 6 of 6 are NaN or infinite" + CAUSE
    assert message_of(explainer.explain, WHITE) == expected
    assert message_of(explainer.explain_all, WHITE, [0, 1]) == expected
    pixels = np.ones((1, 3, *SIZE), np.float32)
    assert message_of(explainer.explain_pixels, pixels) == expected
    assert message_of(explainer.tensors, WHITE).startswith("the values of logits are not finite: 6 of 6")


def test_one_image_of_a_batch(broken):
    """Grey is near 0 to the model, white overflows; an error costs that picture only, as those of files do."""
    results = broken("weight", 2e38).explain_many([GREY, WHITE, GREY], batch_size=3)
    assert np.isfinite(next(results).heatmap).all()
    assert "the logits are not finite" in message_of(next, results)
    assert np.isfinite(next(results).heatmap).all()


def test_pixels_beyond_what_the_model_can_take(broken):
    pixels = np.stack([np.full((3, *SIZE), value, np.float32) for value in (1, 1e38)])
    assert "the logits are not finite" in message_of(broken("weight", 10).explain_pixels, pixels)
    assert len(broken("weight", 10).explain_pixels(pixels[:1])) == 1


# A constant of the hand-made artifact: with it damaged, the logits and the other methods' maps are as before
DAMAGED = {
    "scale": ("rollout", "raw_attention", "attention_flow", "attention_gradcam", "gmar"),
    "small": ("grad_rollout", "generic_attention", "transformer_attribution", "gmar"),
    "nine": ("relevance_rollout", "last_layer", "legrad", "vit_reciprocam"),
}


@pytest.mark.parametrize(("constant", "method"), [(name, method) for name in DAMAGED for method in DAMAGED[name]])
def test_map(broken, constant, method):
    explainer = broken(constant, np.nan)
    whose = f"class 2 ({LABELS[2]})" if METHODS[method].per_target else "all classes"
    expected = f"the values of method {method}'s map for {whose} are not finite: 6 of 6 are NaN or infinite{CAUSE}"
    assert message_of(explainer.explain, WHITE, 2, method) == expected
    assert np.isfinite(explainer.explain(WHITE, 2, "gradient").heatmap).all()


def test_all_methods_name_the_one(broken):
    message = message_of(broken("nine", np.inf).explain_all, WHITE, [2, 3])
    assert message.startswith("the values of method transformer_attribution's map for class 2 (crane) are not finite")


def test_raw_tensors(broken):
    explainer = broken("small", np.inf)
    assert "the values of attention_gradient are not finite" in message_of(explainer.tensors, WHITE)
    assert np.isfinite(explainer.tensors(WHITE, passes=["attention"])["attention"]).all()


def test_runs_of_methods_that_take_many(broken):
    """Masked pictures have infinite logits where the whole one has none; sigmoid would make plain 100 % of them."""
    for activation in ("softmax", "sigmoid"):
        explainer = broken("weight", -2e38, activation=activation)
        assert np.isfinite(explainer.explain(GREY, 0, "raw_attention").heatmap).all()
        message = message_of(explainer.explain, GREY, 0, "rise", masks=10)
        assert message.startswith("logits among the 10 runs of the image are not finite")


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "input_x_gradient", "gradient"])
def test_gradients(broken, monkeypatch, method):
    """Of float32's range: the sum over channels, or the way times the gradient, leaves it."""
    explainer = broken("nine", 9)
    run = explainer._artifact.run

    def huge(*arguments):
        values = run(*arguments)
        return {name: values[name] if name in ALWAYS else np.full_like(values[name], 3e38) for name in values}

    monkeypatch.setattr(explainer._artifact, "run", huge)
    assert message_of(explainer.explain, WHITE, 1, method).startswith(
        f"the values of method {method}'s map for class 1 ({LABELS[1]}) are not finite: "
    )


def test_heatmap_between_pixels(broken, monkeypatch):
    """Every patch sums to 0, but halfway from one pixel to the next, float32 cannot hold the difference."""
    explainer = broken("nine", 9)
    run = explainer._artifact.run
    stripes = np.where(np.indices(SIZE).sum(0) % 2, 3e38, -3e38).astype(np.float32)
    monkeypatch.setattr(
        explainer._artifact, "run", lambda *given: {**run(*given), "pixel_relevance": np.tile(stripes, (1, 1, 1, 1))}
    )
    assert "the values of method full's map for class 1" in message_of(explainer.explain, WHITE, 1, "full")


@pytest.mark.parametrize("logits", [[3e38, -3e38, 0], [-3e38, -3e38, -3e38], [1e4, 1e4, -1e4], [1e-45, 0, -1e-45]])
def test_probabilities_of_finite_logits(logits):
    """Against exact rational arithmetic where there is no rounding to speak of: e^-1000 and less is 0 in float64."""
    given = np.array(logits, np.float32)
    fields = {"preprocessing": Preprocessing(SIZE, (0.5,) * 3, (0.5,) * 3), "labels": ["a", "b", "c"]}
    fields |= {"model": "", "checkpoint": {"source": "", "sha256": None}, "patch_grid": (1, 1), "prefix_tokens": 0}
    fields |= {"readout": (0,), "layers": 1, "heads": 1, "token_width": 8, "hidden_width": 8, "passes": ("attention",)}
    top = [value == given.max() for value in given] if max(logits) > 1 or max(logits) < -1 else [True] * 3
    softmax = probabilities(given, Metadata(**fields, activation="softmax"))
    np.testing.assert_allclose(softmax, np.array(top) / sum(top), rtol=1e-12)
    sigmoid = probabilities(given, Metadata(**fields, activation="sigmoid"))
    np.testing.assert_allclose(sigmoid, [0.5 if abs(value) < 1 else float(value > 0) for value in logits], rtol=1e-12)
