"""What is used of other libraries' private parts, and what happens where a version does not have it."""

import logging
import warnings
from types import SimpleNamespace

import pytest
import timm
import torch
import transformers
from torch import nn

from onnxplain.catalog import DEMO, LIBRARIES
from onnxplain.export import LibraryWarning, export_model, load_backbone
from onnxplain.export.models.internals import of_open_clip, of_timm, of_torchvision, of_transformers
from onnxplain.export.models.internals.convenience import convenience
from onnxplain.export.models.loading import LOADERS
from onnxplain.runtime import OnnxplainError

TINY = "timm/test_vit.r160_in1k"


@pytest.fixture
def vit(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8,
        num_labels=5,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return f"hf/{tmp_path / 'vit'}"


def test_libraries_and_loaders_are_the_same():
    assert set(LOADERS) == {DEMO, *LIBRARIES}


def test_a_convenience_that_fails_warns_and_goes_on():
    with pytest.warns(LibraryWarning, match=r"^no labels \(AttributeError: it is gone\)$"), convenience("no labels"):
        raise AttributeError("it is gone")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with convenience("no labels"):
            pass
    with pytest.raises(KeyboardInterrupt), convenience("no labels"):
        raise KeyboardInterrupt


def test_with_the_versions_installed_nothing_is_missing(vit, recwarn):
    load_backbone(vit)
    load_backbone(TINY, random_init=True)
    load_backbone("open_clip/ViT-S-16-alt", random_init=True)
    assert [item for item in recwarn if issubclass(item.category, LibraryWarning)] == []


def test_attention_that_cannot_be_registered(vit, monkeypatch, tmp_path):
    """The model is the same then, and its file equal to it."""
    expected = load_backbone(vit)
    monkeypatch.setattr(transformers.AttentionInterface, "register", None)
    with pytest.warns(LibraryWarning, match="the graph contains attention masks that mask nothing"):
        backbone = load_backbone(vit)
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone.model(pixels), expected.model(pixels))
    assert backbone.model.model.config._attn_implementation == of_transformers.SDPA
    assert export_model(backbone, tmp_path / "vit.onnx", passes=["gradient"]).passed


def test_progress_that_cannot_be_silenced(vit, monkeypatch):
    monkeypatch.delattr(transformers.utils.logging, "is_progress_bar_enabled")
    before = transformers.utils.logging.get_verbosity()
    with pytest.warns(LibraryWarning, match="transformers prints its own progress"):
        assert load_backbone(vit).labels == tuple(map(str, range(5)))
    assert transformers.utils.logging.get_verbosity() == before


def test_quiet_leaves_everything_as_it_was():
    log = transformers.utils.logging
    log.set_verbosity(logging.INFO)
    try:
        with of_transformers.quiet():
            assert log.get_verbosity() == logging.ERROR and not log.is_progress_bar_enabled()
        assert log.get_verbosity() == logging.INFO and log.is_progress_bar_enabled()
    finally:
        log.set_verbosity_warning()


def test_patches_that_would_be_hidden_in_an_unknown_way():
    model = nn.Module()
    model.embeddings = nn.Identity()
    with pytest.raises(OnnxplainError, match="hides patches of MAE in an unknown way"):
        of_transformers.hide_no_patches(model)


def test_imagenet_labels_that_timm_does_not_give(monkeypatch):
    assert load_backbone(TINY, random_init=True).labels[0] == "tench, Tinca tinca"
    monkeypatch.delattr("timm.data.infer_imagenet_subset")
    with pytest.warns(LibraryWarning, match="classes have numbers in place of ImageNet's labels"):
        assert load_backbone(TINY, random_init=True).labels == tuple(map(str, range(1000)))
    monkeypatch.delattr("timm.data.ImageNetInfo")
    with pytest.warns(LibraryWarning, match="classes have numbers in place of ImageNet's labels"):
        assert of_timm.imagenet_1k_labels() is None


def test_a_second_copy_that_timm_keeps(monkeypatch):
    state = timm.create_model("test_vit").state_dict()
    model = of_timm.create_with_state("test_vit", state, True, {})
    assert "state_dict" not in model.pretrained_cfg
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: SimpleNamespace(pretrained_cfg={}))
    with pytest.warns(LibraryWarning, match="timm keeps a second copy"):
        of_timm.create_with_state("test_vit", state, True, {})


def test_positions_that_torchvision_does_not_resize(monkeypatch):
    state = {"encoder.pos_embedding": torch.zeros(1, 5, 8)}
    assert of_torchvision.resize_positions(state, 32, 8)["encoder.pos_embedding"].shape == (1, 17, 8)
    monkeypatch.delattr("torchvision.models.vision_transformer.interpolate_embeddings")
    with pytest.warns(LibraryWarning, match="position embeddings are not resized"):
        assert of_torchvision.resize_positions(state, 32, 8) is state


def test_weights_that_torchvision_does_not_know_are_no_matter_of_versions(recwarn):
    state = {"head.weight": torch.zeros(2)}
    assert of_torchvision.resize_positions(state, 32, 8) is state and not recwarn.list


def test_what_open_clip_may_not_have():
    with pytest.warns(LibraryWarning, match="position embeddings are not resized"):
        of_open_clip.resize_positions(SimpleNamespace(), {}, None)
    with pytest.warns(LibraryWarning, match="prompts too long for the text encoder are cut"):
        assert of_open_clip.count_tokens(SimpleNamespace(), "a cat") == 0
    assert of_open_clip.count_tokens(SimpleNamespace(encode=str.split), "a cat") == 4
