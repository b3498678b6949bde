"""Rows of the table at full size, exported from files that their libraries wrote, against these libraries themselves.

    python -m pytest tests/full_size/exports.py

Not part of the suite: each model takes a minute or more. Weights are random, everything else is as published. Compared
are the file's logits and attention gradients with those of the library's own eager model and its own attention, which
it returns, or shows to a hook.
"""

import json
from contextlib import contextmanager
from functools import partial

import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from torch import nn

from onnxplain.export import MODELS, Head, export_model, load_backbone
from onnxplain.runtime.backends.onnx import OnnxArtifact
from onnxplain.runtime.images.preprocessing import preprocess
from tests.full_size.backbones import DINOV2_PROCESSOR
from tests.helpers.real_image import assert_agree, astronaut, randomise
from tests.helpers.transformers_models import CLIP, DEIT, OLD, SIGLIP, SQUASHED

TARGETS = [1, 3]
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
CLASSES = {"num_labels": 1000}
WEIGHTS = {"need_weights": True, "average_attn_weights": False}


@contextmanager
def shown(model):
    """The attention that timm's layers and PyTorch's nn.MultiheadAttention compute, in the order of the calls."""
    matrices, handles = [], []
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if isinstance(getattr(module, "attn_drop", None), nn.Dropout):
            handles.append(module.attn_drop.register_forward_hook(lambda module, given, out: matrices.append(out)))
        if isinstance(module, nn.MultiheadAttention):
            handles += [
                module.register_forward_pre_hook(lambda module, args, kw: (args, kw | WEIGHTS), with_kwargs=True),
                # What is returned is a view of what the values are multiplied by.
                module.register_forward_hook(lambda module, given, out: matrices.append(out[1]._base)),
            ]
    yield matrices
    for handle in handles:
        handle.remove()


def by_hooks(model, forward, pixels):
    with shown(model) as matrices:
        return forward(pixels), matrices


def by_transformers(model, read, pixels, **options):
    out = model(pixel_values=pixels, output_attentions=True, **options)
    return read(out), list(out.attentions)


def compare(backbone, library, folder):
    """``library``: pixels -> its logits and its attention matrices."""
    export_model(backbone, folder / "artifact.onnx", passes=["gradient"])
    pixels = torch.from_numpy(preprocess(astronaut(), backbone.preprocessing)[0]).unsqueeze(0)
    found = OnnxArtifact(folder / "artifact.onnx", "cpu", None).run(
        pixels.numpy(), TARGETS, ["attention", "attention_gradient"]
    )
    logits, matrices = library(pixels)
    assert_agree(torch.from_numpy(found["logits"]), logits.detach())
    matrices = matrices[: found["attention"].shape[1]]  # an attention pool comes last, and has outputs of its own
    for layer, matrix in enumerate(matrices):
        mine = torch.from_numpy(found["attention"][:, layer])
        assert_agree(mine, matrix.detach().reshape(mine.shape))
    for column, target in enumerate(TARGETS):
        gradients = torch.autograd.grad(logits[0, target], matrices, retain_graph=True)
        mine = torch.from_numpy(found["attention_gradient"][0, column])
        assert_agree(mine, torch.cat([gradient.reshape(1, *mine.shape[1:]) for gradient in gradients]))


def with_head(features, width):
    """A head of five classes, and the library's function with it."""
    head = Head(torch.randn(5, width, generator=torch.Generator().manual_seed(3)), pooling="own")

    def forward(*given):
        out = features(*given)
        if isinstance(out, tuple):
            return out[0] @ head.weight.T, out[1]
        return out @ head.weight.T

    return head, forward


@pytest.mark.parametrize("name", MODELS)
def test_timm(name, tmp_path):
    row = MODELS[name]
    model = randomise(timm.create_model(row.architecture, **({"img_size": 224} if row.image_size else {})))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    forward, head = model, None
    if not row.classes or row.pooling != "own":
        head, forward = with_head(model, model.num_classes or model.num_features)
    pooling = None if head is None else "own"
    backbone = load_backbone(name, checkpoint=tmp_path / "model.safetensors", head=head, head_pooling=pooling)
    compare(backbone, partial(by_hooks, model, forward), tmp_path)


def dinov2(width, heads, layers, registers=0):
    sizes = {
        "hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers, "image_size": 518,
        "patch_size": 14, **CLASSES,
    }  # fmt: skip
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        return transformers.Dinov2WithRegistersForImageClassification(config)
    return transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**sizes))


def beit():
    config = transformers.BeitConfig(
        use_relative_position_bias=True, use_mean_pooling=True, layer_scale_init_value=0.1, **CLASSES
    )
    return transformers.BeitForImageClassification(config)


CLASSIFIERS = {
    "vit": (lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**CLASSES)), SQUASHED),
    "deit-base": (lambda: transformers.DeiTForImageClassification(transformers.DeiTConfig(**CLASSES)), DEIT),
    "deit-base-distilled": (
        lambda: transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**CLASSES)),
        DEIT,
    ),
    "dinov2": (lambda: dinov2(768, 12, 12), DINOV2_PROCESSOR),
    "dinov2-small": (lambda: dinov2(384, 6, 12), DINOV2_PROCESSOR),
    "dinov2-large": (lambda: dinov2(1024, 16, 24), DINOV2_PROCESSOR),
    "dinov2-reg": (lambda: dinov2(768, 12, 12, registers=4), DINOV2_PROCESSOR),
    "beit": (beit, SQUASHED),
}


def saved(model, processor, folder):
    """As the library writes it, and open to questions about its attention."""
    model = randomise(model)
    model.save_pretrained(folder)
    larger = {key: {"height": 224, "width": 224} for key in ("size", "crop_size") if key in processor}
    if "shortest_edge" in (processor["size"] if isinstance(processor["size"], dict) else {}):
        larger["size"] = processor["size"]
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | larger))
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_of_transformers(name, tmp_path):
    make, processor = CLASSIFIERS[name]
    model = saved(make(), processor, tmp_path)
    backbone = load_backbone(name, checkpoint=tmp_path)
    compare(backbone, partial(by_transformers, model, lambda out: out.logits), tmp_path)


def mae():
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig())
    noise = torch.arange(196.0).unsqueeze(0)  # nothing hidden, and the patches in their order
    return model, model.vit, {"noise": noise}, lambda out: out.last_hidden_state[:, 0], 768, OLD


def dinov3():
    model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**BASE, num_register_tokens=4, image_size=224))
    return model, model, {}, lambda out: out.last_hidden_state[:, 0], 768, SQUASHED


def clip():
    config = transformers.CLIPConfig(vision_config={**BASE, "patch_size": 16}, projection_dim=512)
    model = transformers.CLIPModel(config)
    read = lambda out: model.visual_projection(out.pooler_output)  # noqa: E731
    return model, model.vision_model, {}, read, 512, CLIP


def siglip():
    model = transformers.SiglipModel(transformers.SiglipConfig())
    return model, model.vision_model, {}, lambda out: out.pooler_output, 768, SIGLIP


@pytest.mark.parametrize("make", [mae, dinov3, clip, siglip])
def test_tower_of_transformers(make, tmp_path):
    model, tower, options, read, width, processor = make()
    saved(model, processor, tmp_path)
    if make is mae:
        tower.config.mask_ratio = 0.0
    head, forward = with_head(partial(by_transformers, tower, read, **options), width)
    compare(load_backbone(make.__name__, checkpoint=tmp_path, head=head), forward, tmp_path)


def test_torchvision(tmp_path):
    model = randomise(torchvision.models.vit_b_16())
    torch.save(model.state_dict(), tmp_path / "x.pth")
    backbone = load_backbone("torchvision/vit_b_16", checkpoint=tmp_path / "x.pth")
    compare(backbone, partial(by_hooks, model, model), tmp_path)


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu"])
def test_open_clip(name, tmp_path):
    model = randomise(open_clip.create_model(name))
    torch.save(model.state_dict(), tmp_path / "x.pt")
    head, forward = with_head(model.encode_image, 512)
    backbone = load_backbone(f"open_clip/{name}", checkpoint=tmp_path / "x.pt", head=head)
    compare(backbone, partial(by_hooks, model.visual, forward), tmp_path)
