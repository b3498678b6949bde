"""Wrong arguments of an export are refused before any work is done."""

import pytest
import timm
from torch import nn

from onnxplain.export import export_model
from onnxplain.runtime import OnnxplainError
from tests.helpers.export_cases import LABELS, PREPROCESSING
from tests.reference import variants


class _Pair(nn.Module):
    def forward(self, pixels):
        return pixels.mean((2, 3)), pixels


ARGUMENTS = {
    "format": ({"format": "tf"}, "there is no format 'tf'; there are: onnx, torchscript"),
    "pass": ({"passes": ["gradient", "magic"]}, "there is no pass 'magic'; there are: gradient, relevance,"),
    "passes as text": ({"passes": "gradient"}, "`passes` must be a list of names, got the text 'gradient'"),
    "alpha below 1": ({"alpha": 0.5, "beta": -0.5}, "`alpha` must be at least 1 and `beta` one less"),
    "beta": ({"alpha": 2, "beta": 0}, "got alpha 2 and beta 0"),
    "gamma": ({"gamma": -0.25}, "`gamma` must be at least 0, got -0.25"),
    "gamma of convolutions": ({"gamma_conv": -1}, "`gamma_conv` must be at least 0, got -1"),
    "gamma twice": ({"gamma": 0.25, "gamma_linear": 0.25}, "give it or them, not both, got `gamma` and `gamma_linear`"),
    "no number": ({"gamma": "1"}, "`gamma` must be a number, got '1'"),
    "alpha of text": ({"alpha": "2"}, "`alpha` must be a number, got '2'"),
    "beta of text": ({"beta": "1"}, "`beta` must be a number, got '1'"),
    "infinite": ({"alpha": float("inf")}, "`alpha` must be a number, got inf"),
    "old opset": ({"opset": 17}, "`opset` must be from 18 to"),
    "new opset": ({"opset": 99}, "got 99"),
    "activation": ({"activation": "relu"}, "there is no activation 'relu'; there are: softmax, sigmoid"),
    "no preprocessing": ({"preprocessing": None}, "preprocessing=dict(size=(H, W)"),
    "no mean": ({"preprocessing": {"size": (32, 32), "std": (1, 1, 1)}}, "'mean'"),
    "bad mean": (
        {"preprocessing": PREPROCESSING | {"mean": (1, 2)}},
        "'mean' must be three numbers from -10 to 10, got",
    ),
    "unknown field": ({"preprocessing": PREPROCESSING | {"colour": 1}}, "'colour'"),
    "another size": (
        {"preprocessing": PREPROCESSING | {"size": (64, 64)}},
        "the model fails on a float32 image [1, 3, 64",
    ),
    "few labels": ({"labels": ["ant"]}, "1 labels given for a model of 5 classes"),
    "float64": ({"model": lambda: variants.build("plain")}, "the model fails on a float32 image"),
    "two outputs": ({"model": _Pair}, "must return one tensor [batch, classes], it returns tuple"),
    "one class": (
        {"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 1))},
        "the softmax of one class is always 1; give `activation='sigmoid'`",
    ),
    "map as output": ({"model": lambda: nn.Conv2d(3, 5, 1)}, "it returns [1, 5, 32, 32]"),
    "convolutions": (
        {"model": lambda: timm.create_model("resnet10t", num_classes=5)},
        "no attention found in the model",
    ),
    "no layers": (
        {"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))},
        "no attention found in the model",
    ),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments(case, plain, kept, exporter_gives):
    changes, expected = ARGUMENTS[case]
    given = {"labels": LABELS, "preprocessing": PREPROCESSING} | changes
    chosen = given.pop("model", lambda: plain)()
    exporter_gives(None)  # long work would fail in another way
    for path in (kept, kept.parent / "new" / "artifact.onnx"):
        with pytest.raises(OnnxplainError) as caught:
            export_model(chosen, path, **given)
        assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["artifact.onnx/below/a/file.onnx", "."])
def test_place_that_cannot_be_written(place, plain, kept, exporter_gives):
    exporter_gives(None)
    path = kept.parent / place
    with pytest.raises(OnnxplainError) as caught:
        export_model(plain, path, labels=LABELS, preprocessing=PREPROCESSING)
    assert str(caught.value).startswith(f"cannot write {path}: ") and "\n" not in str(caught.value)
