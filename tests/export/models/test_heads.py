"""Heads in files: written, read, and what is answered to a file that is none."""

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from onnxplain.export import Head, read_head, write_head
from onnxplain.runtime import OnnxplainError

FULL = Head(
    torch.randn(3, 4), torch.randn(3), torch.randn(4), torch.rand(4) + 0.5, "cls+mean", ("a", "b", "ü"), "sigmoid"
)


@pytest.mark.parametrize("head", [FULL, Head(torch.randn(2, 5))], ids=["full", "weight alone"])
def test_written_and_read(head, tmp_path):
    path = tmp_path / "head.safetensors"
    write_head(path, head)
    read = read_head(path)
    for part in ("weight", "bias", "mean", "std"):
        given, expected = getattr(read, part), getattr(head, part)
        assert given is expected is None or torch.equal(given, expected)
    assert (read.pooling, read.labels, read.activation) == (head.pooling, head.labels, head.activation)


def test_format(tmp_path):
    """The file is what the documentation says, so that others can write and read it."""
    write_head(tmp_path / "head.safetensors", FULL)
    with safe_open(tmp_path / "head.safetensors", "pt") as file:
        assert set(file.keys()) == {"weight", "bias", "mean", "std"}
        assert file.metadata() == {
            "onnxplain_head": "1",
            "pooling": "cls+mean",
            "labels": '["a", "b", "ü"]',
            "activation": "sigmoid",
        }


def test_standardisation_is_a_batch_norm():
    features = torch.randn(5, 4)
    norm = nn.BatchNorm1d(4, eps=0, affine=False).eval()
    norm.running_mean, norm.running_var = FULL.mean, FULL.std**2
    expected = nn.functional.linear(norm(features), FULL.weight, FULL.bias)
    torch.testing.assert_close(FULL.linear()(features), expected)


def test_linear_head_of_dinov2(tmp_path):
    """weight and bias in a .pth, as dinov2_vitb14_linear_head.pth; from data-parallel training too."""
    weight, bias = torch.randn(1000, 6), torch.randn(1000)
    for prefix in ("", "module."):
        torch.save({f"{prefix}weight": weight, f"{prefix}bias": bias}, tmp_path / "head.pth")
        head = read_head(tmp_path / "head.pth")
        assert torch.equal(head.weight, weight) and torch.equal(head.bias, bias)
        assert head.pooling is None and head.labels is None


WEIGHT = {"weight": torch.ones(3, 4)}
OWN = {"onnxplain_head": "1"}
WRONG = {
    "another file": ({"blocks.0.norm.weight": torch.ones(3)}, {}, "is not a head: blocks.0.norm.weight in it"),
    "no weight": ({"bias": torch.ones(3)}, {}, "is not a head: no weight in it"),
    "more than a head": (WEIGHT | {"scale": torch.ones(1)}, {}, "is not a head: scale in it"),
    "weight of another rank": ({"weight": torch.ones(4)}, {}, "weight must be [classes, width], got [4]"),
    "no classes": ({"weight": torch.ones(0, 4)}, {}, "weight must be [classes, width], got [0, 4]"),
    "bias": (WEIGHT | {"bias": torch.ones(4)}, {}, "bias must be [3] with a weight of [3, 4], got [4]"),
    "mean": (WEIGHT | {"mean": torch.ones(3)}, {}, "mean must be [4] with a weight of [3, 4], got [3]"),
    "std of zero": (WEIGHT | {"std": torch.zeros(4)}, {}, "std must be positive"),
    "nan": ({"weight": torch.full((3, 4), float("nan"))}, {}, "weight must hold finite floating-point numbers"),
    "pooling": (WEIGHT, OWN | {"pooling": "max"}, "no pooling 'max'; there are: cls, mean, cls+mean, own"),
    "activation": (WEIGHT, OWN | {"activation": "relu"}, "no activation 'relu'; there are: softmax, sigmoid"),
    "labels that are no list": (WEIGHT, OWN | {"labels": "cat, dog"}, "must be a JSON list"),
    "too few labels": (WEIGHT, OWN | {"labels": '["a"]'}, "labels must be 3 texts, one for each class, got 1"),
    "labels of numbers": (WEIGHT, OWN | {"labels": "[1, 2, 3]"}, "labels must be 3 texts"),
    "a later version": (WEIGHT, {"onnxplain_head": "2"}, "version 2, which this version of onnxplain does not know"),
    "a later option": (WEIGHT, OWN | {"normalize": "l2"}, "a head with normalize, which this version"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_head(case, tmp_path):
    tensors, metadata, expected = WRONG[case]
    safetensors.torch.save_file(tensors, tmp_path / "head.safetensors", metadata)
    with pytest.raises(OnnxplainError) as caught:
        read_head(tmp_path / "head.safetensors")
    assert expected in str(caught.value) and "head.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_and_no_valid_head_to_write(tmp_path):
    with pytest.raises(OnnxplainError, match="no head at"):
        read_head(tmp_path / "head.safetensors")
    with pytest.raises(OnnxplainError, match="std must be positive"):
        write_head(tmp_path / "head.safetensors", Head(torch.ones(1, 2), std=torch.zeros(2)))
    assert not (tmp_path / "head.safetensors").exists()
