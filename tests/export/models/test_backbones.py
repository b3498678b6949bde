"""Models by name: what the table leads to, what a wrong option is answered with, labels."""

import socket
from types import SimpleNamespace

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from timm.data import resolve_model_data_config

from onnxplain.demo import model as demo
from onnxplain.demo.scenes import DIGITS
from onnxplain.export import MODELS, Backbone, export_model, load_backbone
from onnxplain.runtime import Explainer, OnnxplainError, Preprocessing, available_methods
from tests.helpers.messages import message_of
from tests.helpers.real_image import outputs
from tests.helpers.tiny_timm import TINY, load_tiny, random_pixels
from tests.reference import variants

HEADLESS = "vit_small_patch14_dinov2"


OPTIONS = {
    "checkpoint and random_init": ("deit", {"checkpoint": "x.pth", "random_init": True}, "exclude each other"),
    "unknown name": ("dieT", {}, "there is no model 'dieT'; did you mean 'deit'"),
    "name without timm/": (TINY, {}, "timm/<name>"),
    "unknown timm name": ("timm/vit_huge", {}, "timm has no model 'vit_huge'"),
    "no timm name": ("timm/", {}, "timm has no model ''"),
    "unknown tag": (f"timm/{TINY}.nope", {}, "nope"),
    "unknown tag, untrained": (f"timm/{TINY}.nope", {"random_init": True}, "nope"),
    "classes of weights without": (f"timm/{HEADLESS}", {"num_classes": 3}, "no classification head; give weights that"),
    "labels of features": (f"timm/{HEADLESS}", {"random_init": True, "labels": ["a"]}, "without classes"),
    "head and classes": (f"timm/{TINY}", {"head": "x.pth", "num_classes": 3}, "leave out `num_classes`"),
    "pooling without a head": (f"timm/{TINY}", {"head_pooling": "cls"}, "give `head` too"),
    "unknown pooling": (f"timm/{TINY}", {"head": "x.pth", "head_pooling": "max"}, "one of cls, mean, cls+mean, own"),
    "no head": (f"timm/{TINY}", {"head": "none.pth"}, "no head at none.pth"),
    "demo of another size": ("demo", {"image_size": 64}, "cannot be changed"),
    "demo with random weights": ("demo", {"random_init": True}, "cannot be changed"),
    "published head of another size": (f"timm/{TINY}", {"num_classes": 3}, "of 1000 classes, not of 3"),
    "no classes": (f"timm/{TINY}", {"random_init": True, "num_classes": 0}, "at least 1, got 0"),
    "negative classes": (f"timm/{TINY}", {"random_init": True, "num_classes": -1}, "at least 1, got -1"),
    "labels": (f"timm/{TINY}", {"random_init": True, "labels": ["a"]}, "1 labels given for a model of 1000 classes"),
    "image of no size": (f"timm/{TINY}", {"random_init": True, "image_size": 0}, "from 1 to 8192 pixels, got 0 x 0"),
    "image size as text": (f"timm/{TINY}", {"random_init": True, "image_size": "64"}, "8192 pixels, got 64 x 64"),
    "no name": (3, {}, "a model must be a name, got int"),
    "huge image": (f"timm/{TINY}", {"random_init": True, "image_size": (99_999, 64)}, "8192 pixels, got 99999 x 64"),
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
    assert expected in message_of(load_backbone, name, **options)


@pytest.mark.parametrize("name", ["deit", f"timm/{TINY}", "dinov2", "hf/google/vit-base-patch16-224"])
def test_offline(name, monkeypatch, tmp_path, no_network):
    """HF_HUB_OFFLINE=1, which huggingface_hub reads when it is imported, and nothing in its cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = message_of(load_backbone, name)
    assert "cannot download the weights" in message and "`checkpoint`" in message and "`random_init=True`" in message


@pytest.mark.parametrize("name", MODELS)
def test_named_models(name, monkeypatch):
    """The row leads to timm's model and, where the row does not say otherwise, its evaluation transform."""
    built = SimpleNamespace(model=None)

    def small(*args, pretrained, **options):
        assert not pretrained
        built.model = create(*args, **options, depth=1)  # deeper models only take longer to fill with random numbers
        return built.model

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", small)
    backbone, row = load_backbone(name, random_init=True), MODELS[name]
    config = resolve_model_data_config(built.model)
    size = config.pop("input_size")[1:]
    if row.image_size is not None:
        size, config["crop_pct"] = (row.image_size, row.image_size), row.crop_pct
    assert backbone.preprocessing.size == size
    assert {key: getattr(backbone.preprocessing, key) for key in config} == config
    assert (backbone.name, backbone.activation, backbone.source, backbone.sha256) == (name, "softmax", "random", None)


@pytest.mark.parametrize("name", MODELS)
def test_rows_name_what_timm_publishes(name):
    row = MODELS[name]
    published = timm.models.get_pretrained_cfg(row.architecture)
    assert published is not None and published.hf_hub_id
    if row.repository is None:  # those with one have their head from there; CLIP's 512 are no classes
        assert published.num_classes == (row.classes or (512 if name.startswith("clip") else 0))


def test_own_classes_labels_and_size():
    backbone = load_tiny(random_init=True, num_classes=2, image_size=64, labels=["cat", "dog"])
    assert backbone.name == TINY and backbone.labels == ("cat", "dog") and backbone.preprocessing.size == (64, 64)
    assert outputs(backbone.model, random_pixels((64, 64))).shape == (2, 2)


def test_features_are_no_classes(tmp_path):
    """A model without a head is exported with attention and features alone, and says what it takes to have more."""
    small = variants.build("plain", torch.float32)
    backbone = Backbone(
        "small", small, Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3), tuple("abcde"), "softmax", "", None, "own"
    )
    with pytest.raises(
        OnnxplainError, match="attention and features only: leave out `passes`, or give it classes with `head`, a file"
    ):
        export_model(backbone, tmp_path / "x.onnx", passes=["gradient"])
    assert not list(tmp_path.iterdir())
    assert export_model(backbone, tmp_path / "x.onnx").passed
    metadata = Explainer(tmp_path / "x.onnx", "cpu").metadata
    assert metadata.passes == ("attention", "features")
    assert {method.name for method in available_methods(metadata)} >= {"rollout", "raw_attention", "attention_flow"}


def test_random_weights_are_the_same_each_time_and_disturb_nobodys():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = load_backbone(f"timm/{TINY}", random_init=True).model.state_dict()
    assert torch.rand(1) == expected
    second = load_backbone(f"timm/{TINY}", random_init=True).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_demo(tmp_path):
    """With weights of its own, so that it does not depend on those in the package."""
    path, trained = tmp_path / "mine.safetensors", demo.architecture().eval()
    safetensors.torch.save_file(trained.state_dict(), path)
    backbone = load_backbone("demo", checkpoint=path)
    pixels = random_pixels(backbone.preprocessing.size)
    assert torch.equal(outputs(backbone.model, pixels), outputs(trained, pixels))
    assert backbone.labels == DIGITS and backbone.activation == "sigmoid" and backbone.source == "demo"
    assert backbone.sha256 != load_backbone("demo").sha256 == load_backbone("demo").sha256
