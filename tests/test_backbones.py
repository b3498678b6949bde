"""Models by name: weights from files of every kind, what a broken file or a wrong option is answered with, labels."""

import hashlib
import os
import pickle
import socket
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from reference import variants
from timm.data import resolve_model_data_config
from torch import nn

from onnxplain.demo import model as demo
from onnxplain.export import MODELS, load_backbone
from onnxplain.export.backbones import DEMO_LABELS
from onnxplain.export.checkpoints import load_weights
from onnxplain.runtime import OnnxplainError

TINY = "test_vit"  # 0.4 million parameters, 160 pixels in patches of 16, 1000 classes
HEADLESS = "vit_small_patch14_dinov2"
UNREADABLE = "is not a checkpoint that can be read safely"
load_tiny = partial(load_backbone, f"timm/{TINY}")


def _pixels(size=(160, 160)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def _logits(model, pixels):
    with torch.no_grad():
        return model(pixels)


def _message(call, *args, **options):
    """The error's text, which must be one line that a person can read."""
    with pytest.raises(OnnxplainError) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.fixture(scope="module")
def trained():
    """A stand-in for a trained model: every parameter has a value that no initialisation gives."""
    model = timm.create_model(TINY).eval()
    variants.randomise(model)
    return model


@pytest.fixture(scope="module")
def state(trained):
    return trained.state_dict()


@pytest.fixture
def saved(tmp_path):
    """Write an object with torch.save; the path."""

    def save(content, name="weights.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def _prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def _zeros(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


WRAPPERS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
    "parallel": lambda state: {"state_dict": _prefixed(state, "module.")},
    "compiled": lambda state: _prefixed(state, "_orig_mod."),
    "model": lambda state: {"model": state},
    "ema before state_dict": lambda state: {"state_dict": _zeros(state), "state_dict_ema": state},
    "ema before model": lambda state: {"model": _zeros(state), "model_ema": _prefixed(state, "module.")},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_checkpoint_gives_the_models_logits(wrapper, trained, state, saved):
    backbone = load_tiny(checkpoint=saved(WRAPPERS[wrapper](state)))
    assert not backbone.model.training
    assert torch.equal(_logits(backbone.model, _pixels()), _logits(trained, _pixels()))


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_file_of_either_kind(kind, trained, state, tmp_path):
    path = tmp_path / f"my weights.{kind}"
    (safetensors.torch.save_file if kind == "safetensors" else torch.save)(state, path)
    for given in (path, str(path)):
        backbone = load_tiny(checkpoint=given)
        assert torch.equal(_logits(backbone.model, _pixels()), _logits(trained, _pixels()))
        assert backbone.source == path.name
        assert backbone.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("given", "size"), [(96, (96, 96)), ((96, 192), (96, 192))])
def test_position_embedding_is_resized(given, size, trained, state, saved):
    backbone = load_tiny(checkpoint=saved(state), image_size=given)
    assert backbone.preprocessing.size == size
    expected = timm.create_model(TINY).eval()
    expected.load_state_dict(state)
    expected.set_input_size(size)
    torch.testing.assert_close(_logits(backbone.model, _pixels(size)), _logits(expected, _pixels(size)))


def test_whole_model_is_refused(saved):
    assert UNREADABLE in _message(load_tiny, checkpoint=saved(nn.Linear(2, 2)))


@pytest.mark.parametrize("kind", ["bare", "in a checkpoint"])
def test_malicious_pickle_is_refused_unexecuted(kind, tmp_path, saved):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Malicious(), protocol=2)) if kind == "bare" else saved({"model": Malicious()})
    assert UNREADABLE in _message(load_tiny, checkpoint=path)
    assert not (tmp_path / "executed").exists()
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)  # the trap does work
    assert (tmp_path / "executed").exists()


BYTES = {
    "empty.pth": lambda good: b"",
    "truncated.pth": lambda good: good[: len(good) // 2],
    "text.pth": lambda good: b"hello\nworld\n",
    "page.pth": lambda good: b"<!DOCTYPE html><title>404</title>",
    "zeros.bin": lambda good: bytes(1000),
    "empty.safetensors": lambda good: b"",
    "truncated.safetensors": lambda good: (300).to_bytes(8, "little") + b'{"a": ',
    "torch.safetensors": lambda good: good,
    "garbage.npz": lambda good: bytes(range(256)),
}


@pytest.mark.parametrize("name", BYTES)
def test_broken_file(name, state, saved):
    path = saved(state, name)
    path.write_bytes(BYTES[name](path.read_bytes()))
    message = _message(load_weights, nn.Linear(2, 2), path)
    assert str(path) in message and UNREADABLE in message and "state_dict()" in message


CONTENTS = {
    "list": [torch.zeros(3)],
    "tensor": torch.zeros(3),
    "none": None,
    "number": 3,
    "list in a wrapper": {"model": [1]},
    "numbers": {"weight": 1.0},
    "unknown wrapper": {"net": {"weight": torch.zeros(3)}},
    "keys that are numbers": {1: torch.zeros(3)},
}


@pytest.mark.parametrize("content", CONTENTS)
def test_no_state_dict(content, saved):
    path = saved(CONTENTS[content])
    assert _message(load_weights, nn.Linear(2, 2), path) == f"{path} holds no state dict of tensors"


def test_no_file(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        assert _message(load_tiny, checkpoint=path) == f"no checkpoint at {path}"


def test_keys_that_do_not_fit_are_listed(state, saved):
    changed = {key: value for key, value in state.items() if not key.startswith("blocks.5.")}
    changed |= {"extra": torch.zeros(1), "norm.weight": torch.zeros(7)}
    message = _message(load_tiny, checkpoint=saved(changed))
    missing = len(state) - len(changed) + 1
    assert f"{missing} missing: blocks.5.attn.proj.bias, blocks.5.attn.proj.weight" in message and "…" in message
    assert "1 unexpected: extra" in message
    assert f"1 of wrong shape: norm.weight [7] instead of [{len(state['norm.weight'])}]" in message


def test_patch_embedding_that_does_not_fit(state, saved):
    changed = state | {"patch_embed.proj.weight": torch.zeros(5, 7)}
    assert "does not fit" in _message(load_tiny, checkpoint=saved(changed))


def test_checkpoint_of_another_number_of_classes(state, saved):
    width = state["head.weight"].shape[1]
    path = saved(state | {"head.weight": torch.ones(3, width), "head.bias": torch.arange(3.0)})
    message = _message(load_tiny, checkpoint=path)
    assert f"head.weight [3, {width}] instead of [1000, {width}]" in message
    assert "3 classes" in message and "--num-classes" in message
    backbone = load_tiny(checkpoint=path, num_classes=3)
    assert torch.equal(backbone.model.head.bias, torch.arange(3.0)) and backbone.labels == ("0", "1", "2")


def test_checkpoint_without_a_head(state, saved):
    path = saved({key: value for key, value in state.items() if not key.startswith("head")})
    assert "2 missing: head.bias, head.weight" in _message(load_tiny, checkpoint=path)


OPTIONS = {
    "checkpoint and random_init": ("deit", {"checkpoint": "x.pth", "random_init": True}, "exclude each other"),
    "unknown name": ("dieT", {}, "unknown model 'dieT'; known are vit, deit, demo and timm/<name>"),
    "name without timm/": (TINY, {}, "timm/<name>"),
    "unknown timm name": ("timm/vit_huge", {}, "timm has no model 'vit_huge'"),
    "no timm name": ("timm/", {}, "timm has no model ''"),
    "unknown tag": (f"timm/{TINY}.nope", {}, "nope"),
    "unknown tag, untrained": (f"timm/{TINY}.nope", {"random_init": True}, "nope"),
    "headless": (f"timm/{HEADLESS}", {}, "no classification head; give weights that have one with --num-classes N"),
    "headless, untrained": (f"timm/{HEADLESS}", {"random_init": True}, "give it one with --num-classes N"),
    "published head of another size": (f"timm/{TINY}", {"num_classes": 3}, "of 1000 classes, not of 3"),
    "no classes": (f"timm/{TINY}", {"random_init": True, "num_classes": 0}, "at least 1, got 0"),
    "negative classes": (f"timm/{TINY}", {"random_init": True, "num_classes": -1}, "at least 1, got -1"),
    "labels": (f"timm/{TINY}", {"random_init": True, "labels": ["a"]}, "1 labels given for a model of 1000 classes"),
    "image of no size": (f"timm/{TINY}", {"random_init": True, "image_size": 0}, "img_size"),
    "part of a patch": (
        f"timm/{TINY}",
        {"random_init": True, "image_size": (160, 100)},
        "16 x 16 pixels, got 160 x 100",
    ),
    "no image size": ("timm/resnet18", {"random_init": True, "image_size": 64}, "img_size"),
    "demo with options": ("demo", {"num_classes": 3}, "cannot be changed"),
    "demo untrained": ("demo", {"random_init": True}, "cannot be changed"),
    "demo labels": ("demo", {"labels": ["a"]}, "1 labels given for a model of 10 classes"),
}


@pytest.fixture
def no_network(monkeypatch):
    """Whoever opens a connection fails at once, and the test with it."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked for the network"))


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options(case, no_network):
    name, options, expected = OPTIONS[case]
    assert expected in _message(load_backbone, name, **options)


@pytest.mark.parametrize("name", ["deit", f"timm/{TINY}"])
def test_offline(name, monkeypatch, tmp_path, no_network):
    """HF_HUB_OFFLINE=1, which huggingface_hub reads when it is imported, and nothing in its cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = _message(load_backbone, name)
    assert "cannot download the weights" in message and "--checkpoint" in message and "--random-init" in message


@pytest.mark.parametrize("name", MODELS)
def test_named_models(name, monkeypatch):
    """The row leads to timm's model, its ImageNet labels and its evaluation transform; nothing is downloaded."""
    built = SimpleNamespace(model=None)

    def small(*args, pretrained, **options):
        assert not pretrained
        built.model = create(*args, **options, depth=1)  # deeper models only take longer to fill with random numbers
        return built.model

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", small)
    backbone = load_backbone(name, random_init=True)
    config = resolve_model_data_config(built.model)
    assert (3, *backbone.preprocessing.size) == config.pop("input_size")
    assert {key: getattr(backbone.preprocessing, key) for key in config} == config
    assert len(backbone.labels) == 1000 == built.model.num_classes
    assert backbone.labels[0].startswith("tench") and backbone.labels[999].startswith("toilet tissue")
    assert (backbone.name, backbone.activation, backbone.source, backbone.sha256) == (name, "softmax", "random", None)


def test_own_classes_labels_and_size():
    backbone = load_tiny(random_init=True, num_classes=2, image_size=64, labels=["cat", "dog"])
    assert backbone.name == TINY and backbone.labels == ("cat", "dog") and backbone.preprocessing.size == (64, 64)
    assert _logits(backbone.model, _pixels((64, 64))).shape == (2, 2)


def test_random_weights_are_the_same_each_time_and_disturb_nobodys():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = load_backbone(f"timm/{TINY}", random_init=True).model.state_dict()
    assert torch.rand(1) == expected
    second = load_backbone(f"timm/{TINY}", random_init=True).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_demo(monkeypatch, tmp_path):
    """With weights of its own, so that it does not depend on those in the package."""
    path, trained = tmp_path / "demo.safetensors", demo.architecture().eval()
    safetensors.torch.save_file(trained.state_dict(), path)
    monkeypatch.setattr(demo, "WEIGHTS", path)
    backbone = load_backbone("demo")
    pixels = _pixels(backbone.preprocessing.size)
    assert torch.equal(_logits(backbone.model, pixels), _logits(trained, pixels))
    assert backbone.labels == DEMO_LABELS and backbone.activation == "sigmoid" and backbone.source == path.name
