"""Every row of the table that timm can build: a checkpoint in the format that is published, through load_backbone."""

from functools import partial

import pytest
import safetensors.torch
import timm
import torch
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from torch import nn

from onnxplain.export import MODELS, Head, load_backbone, write_head
from onnxplain.runtime import OnnxplainError, Preprocessing
from tests.helpers.real_image import TINY, assert_agree, astronaut, ours, outputs, randomise

DINOV2 = [name for name in MODELS if name.startswith("dinov2")]


@pytest.fixture(autouse=True)
def create(monkeypatch):
    """timm builds small models of the architecture that it is asked for."""
    create = partial(timm.create_model, **TINY)
    monkeypatch.setattr(timm, "create_model", create)
    return create


def _theirs(model, **changed):
    """What the model says of the picture after timm's own transform."""
    transform = create_transform(**resolve_model_data_config(model) | changed, is_training=False)
    return outputs(model, transform(astronaut()).unsqueeze(0))


@pytest.mark.parametrize("name", [name for name in MODELS if name not in DINOV2])
def test_checkpoint_in_timms_format(name, create, tmp_path):
    row = MODELS[name]
    model = randomise(create(row.architecture))
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    backbone = load_backbone(name, checkpoint=path)
    assert_agree(ours(backbone), _theirs(model))
    assert backbone.has_classes == (row.classes > 0)
    if row.classes:
        assert backbone.labels == tuple(ImageNetInfo().label_descriptions())
    else:
        assert backbone.labels[0] == "feature 0"


@pytest.mark.parametrize("name", DINOV2)
@pytest.mark.parametrize("given", [None, "cls+mean"])
def test_dinov2_as_its_authors_publish_it(name, given, create, tmp_path):
    """The backbone's .pth with their names and position grid, the linear head's .pth; their transform at 224 pixels."""
    row = MODELS[name]
    model = randomise(create(row.architecture))
    state = model.state_dict() | {"mask_token": torch.zeros(1, 48)}
    if "reg" in name:  # timm has no position embedding for the class token, and adds it to the token
        state["register_tokens"] = state.pop("reg_token")
        state["pos_embed"] = torch.cat([torch.zeros(1, 1, 48), state["pos_embed"]], 1)
    torch.save(state, tmp_path / "pretrain.pth")
    head = {"weight": torch.randn(1000, 96), "bias": torch.randn(1000)}
    torch.save(head, tmp_path / "linear_head.pth")
    backbone = load_backbone(
        name, checkpoint=tmp_path / "pretrain.pth", head=tmp_path / "linear_head.pth", head_pooling=given
    )
    model.set_input_size(224)
    transform = create_transform(224, False, interpolation="bicubic", crop_pct=224 / 256)  # mean and std are ImageNet's
    tokens = outputs(model.forward_features, transform(astronaut()).unsqueeze(0))
    features = torch.cat([tokens[:, 0], tokens[:, model.num_prefix_tokens :].mean(1)], 1)
    assert_agree(ours(backbone), nn.functional.linear(features, **head))
    assert backbone.labels == tuple(ImageNetInfo().label_descriptions())


@pytest.mark.parametrize("name", MODELS)
def test_random_weights(name):
    """They are the same each time, and the outputs are as many as the table says."""
    first, second = (load_backbone(name, random_init=True) for _ in range(2))
    assert torch.equal(ours(first), ours(second))
    assert first.has_classes == (MODELS[name].classes > 0) and first.source == "random" and first.name == name
    if first.has_classes:
        assert len(first.labels) == 1000 and first.labels[0].startswith("tench")


def test_mae_as_its_authors_publish_it(create, tmp_path):
    """Without a head, and with the decoder that is no part of it."""
    model = randomise(create("vit_base_patch16_224.mae"))
    state = model.state_dict() | {"decoder_blocks.0.norm1.weight": torch.ones(8), "mask_token": torch.zeros(1, 1, 8)}
    torch.save({"model": state}, tmp_path / "mae_pretrain_vit_base.pth")
    backbone = load_backbone("mae", checkpoint=tmp_path / "mae_pretrain_vit_base.pth")
    assert_agree(ours(backbone), _theirs(model))
    assert not backbone.has_classes


def test_mae_fine_tuned_by_its_authors(create, tmp_path):
    """Its checkpoint has a head, and the norm behind the mean of the patches."""
    model = randomise(create("vit_base_patch16_224.mae", num_classes=1000, global_pool="avg"))
    assert "fc_norm.weight" in model.state_dict()
    torch.save({"model": model.state_dict()}, tmp_path / "mae_finetuned_vit_base.pth")
    backbone = load_backbone("mae", checkpoint=tmp_path / "mae_finetuned_vit_base.pth")
    assert_agree(ours(backbone), _theirs(model))
    assert len(backbone.labels) == 1000 and backbone.labels[0].startswith("tench")


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean", "own"])
def test_mae_with_a_probe(pooling, create, tmp_path):
    """A head in our format, over standardised features as its linear probing has them."""
    model = randomise(create("vit_base_patch16_224.mae"))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "mae.safetensors")
    width = 96 if pooling == "cls+mean" else 48
    head = Head(
        torch.randn(3, width), torch.randn(3), torch.randn(width), torch.rand(width) + 0.1, pooling, ("a", "b", "c")
    )
    write_head(tmp_path / "head.safetensors", head)
    backbone = load_backbone("mae", checkpoint=tmp_path / "mae.safetensors", head=tmp_path / "head.safetensors")
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    tokens = outputs(model.forward_features, transform(astronaut()).unsqueeze(0))
    features = torch.cat([tokens[:, 0]] * (pooling != "mean") + [tokens[:, 1:].mean(1)] * ("mean" in pooling), 1)
    norm = nn.BatchNorm1d(width, eps=0, affine=False).eval()
    norm.running_mean, norm.running_var = head.mean, head.std**2
    assert_agree(ours(backbone), nn.functional.linear(norm(features), head.weight, head.bias))
    assert backbone.labels == ("a", "b", "c") and backbone.has_classes


def test_clip_as_openai_publish_it(create, tmp_path):
    """Both towers in one state dict with their names; the features are the embedding."""
    model = randomise(create("vit_base_patch16_clip_quickgelu_224.openai"))
    with torch.no_grad():
        model.head.bias.zero_()
    names = {
        "patch_embed.proj": "conv1", "pos_embed": "positional_embedding", "norm_pre": "ln_pre", "norm1": "ln_1",
        "norm2": "ln_2", "blocks": "transformer.resblocks", "attn.qkv.": "attn.in_proj_", "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "cls_token": "class_embedding",
    }  # fmt: skip
    state = {"text_projection": torch.zeros(4, 4)}
    for key, tensor in model.state_dict().items():
        if key == "head.weight":
            key, tensor = "proj", tensor.T
        elif key == "head.bias":
            continue
        tensor = tensor.flatten() if key == "cls_token" else tensor[0] if key == "pos_embed" else tensor
        key = "ln_post" + key.removeprefix("norm") if key.startswith("norm.") else key
        for ours_, theirs in names.items():
            key = key.replace(ours_, theirs)
        state[f"visual.{key}"] = tensor
    torch.save(state, tmp_path / "clip.pth")
    backbone = load_backbone("clip", checkpoint=tmp_path / "clip.pth")
    assert_agree(ours(backbone), _theirs(model))
    assert not backbone.has_classes and len(backbone.labels) == 512


@pytest.mark.parametrize(("size", "expected"), [(448, (448, 448)), ((320, 480), (320, 480))])
def test_another_image_size(size, expected, create, tmp_path):
    model = randomise(create(MODELS["vit"].architecture))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "vit.safetensors")
    backbone = load_backbone("vit", checkpoint=tmp_path / "vit.safetensors", image_size=size)
    model.set_input_size(expected)
    assert_agree(ours(backbone), _theirs(model, input_size=(3, *expected)))


def test_head_of_another_width(tmp_path):
    write_head(tmp_path / "head.safetensors", Head(torch.randn(3, 48), pooling="cls+mean"))
    with pytest.raises(OnnxplainError, match=r"width 48, pooling cls\+mean gives 96; `head_pooling` can be cls, mean"):
        load_backbone("mae", random_init=True, head=tmp_path / "head.safetensors")
    backbone = load_backbone("mae", random_init=True, head=tmp_path / "head.safetensors", head_pooling="mean")
    assert backbone.labels == ("0", "1", "2")


def test_a_head_replaces_the_models_own(create, tmp_path):
    model = randomise(create(MODELS["vit"].architecture))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "vit.safetensors")
    head = Head(torch.randn(2, 48), pooling="own", activation="sigmoid")
    backbone = load_backbone("vit", checkpoint=tmp_path / "vit.safetensors", head=head)
    model.reset_classifier(0)
    assert_agree(ours(backbone), _theirs(model) @ head.weight.T)
    assert backbone.activation == "sigmoid" and backbone.labels == ("0", "1")


def test_every_published_preprocessing_is_within_the_bounds():
    configs = [timm.models.get_pretrained_cfg(name) for name in timm.list_models(pretrained=True)]
    assert len(configs) > 1000
    for config in configs:
        for size, crop in ((config.input_size, config.crop_pct), (config.test_input_size, config.test_crop_pct)):
            if size is not None:
                Preprocessing(size[1:], config.mean, config.std, crop or config.crop_pct)
