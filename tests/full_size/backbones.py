"""The checks of test_backbones_*.py at full size: python -m pytest tests/full_size/backbones.py.

Weights are random, everything else is as published: architecture, file format, size, preprocessing.
"""

import json

import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torchvision
import transformers
from timm.data import create_transform, resolve_model_data_config

from onnxplain.export import MODELS, load_backbone
from tests.helpers.real_image import assert_agree, astronaut, ours, outputs, randomise
from tests.helpers.text_models import random_model, siglip_tokenizer

DINOV2_PROCESSOR = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}
WIDTHS = {"dinov2-small": (384, 6, 12), "dinov2": (768, 12, 12), "dinov2-large": (1024, 16, 24)}


@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("dinov2")])
def test_timm(name, tmp_path):
    model = randomise(timm.create_model(MODELS[name].architecture))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    backbone = load_backbone(name, checkpoint=tmp_path / "model.safetensors")
    assert_agree(ours(backbone), outputs(model, transform(astronaut()).unsqueeze(0)))


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("size", [224, 518])
def test_dinov2_of_transformers(name, size, tmp_path):
    """Trained at 518 pixels, its position embeddings are resized to the picture."""
    width, heads, layers = WIDTHS[name]
    config = transformers.Dinov2Config(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, image_size=518, patch_size=14,
        num_labels=1000,
    )  # fmt: skip
    model = randomise(transformers.Dinov2ForImageClassification(config))
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(DINOV2_PROCESSOR))
    backbone = load_backbone(name, checkpoint=tmp_path, image_size=None if size == 224 else size)
    assert backbone.preprocessing.size == (size, size)
    pixels = torch.randn(1, 3, size, size)
    assert_agree(outputs(backbone.model, pixels), outputs(model, pixels).logits)
    if size == 224:
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
        assert_agree(ours(backbone), outputs(model, processor(astronaut(), return_tensors="pt")["pixel_values"]).logits)


def test_torchvision(tmp_path):
    model = randomise(torchvision.models.vit_b_16())
    torch.save(model.state_dict(), tmp_path / "x.pth")
    transform = torchvision.models.ViT_B_16_Weights.DEFAULT.transforms()
    backbone = load_backbone("torchvision/vit_b_16", checkpoint=tmp_path / "x.pth")
    assert_agree(ours(backbone), outputs(model, transform(astronaut()).unsqueeze(0)))


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu"])
def test_open_clip(name, tmp_path):
    model, _, transform = open_clip.create_model_and_transforms(name)
    randomise(model)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    backbone = load_backbone(f"open_clip/{name}", checkpoint=tmp_path / "x.pt")
    assert_agree(ours(backbone), outputs(model.encode_image, transform(astronaut()).unsqueeze(0)))


PROMPTS = ["a photo of a cat", "this is a very large dog", "two crane"]
CLIP_PROCESSOR = {
    **DINOV2_PROCESSOR,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "size": {"shortest_edge": 224},
}
SIGLIP_PROCESSOR = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    "image_processor_type": "SiglipImageProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}  # fmt: skip


def openai_tokenizer():
    """CLIP's own, from the words that come with open_clip."""
    theirs = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(word, word): index for word, index in theirs.encoder.items()}
    return transformers.CLIPTokenizer(words, list(theirs.bpe_ranks), model_max_length=77)


def save_clip(folder):
    """As openai/clip-vit-base-patch16."""
    config = transformers.CLIPConfig(
        text_config={"hidden_size": 512, "projection_dim": 512, "bos_token_id": 0, "eos_token_id": 2},
        vision_config={"hidden_size": 768, "projection_dim": 512, "patch_size": 16},
        projection_dim=512,
    )
    model = random_model(transformers.CLIPModel(config), 100)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP_PROCESSOR))
    openai_tokenizer().save_pretrained(folder)
    return model


def save_siglip(folder):
    """As google/siglip-base-patch16-224, but for the words of its tokenizer."""
    config = transformers.SiglipConfig(vision_config={"patch_size": 16}, text_config={})
    model = random_model(transformers.SiglipModel(config), 117, -12.9)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SIGLIP_PROCESSOR))
    siglip_tokenizer(64).save_pretrained(folder)
    return model


def logits_of_transformers(folder, model, padding):
    """For the picture and PROMPTS."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(PROMPTS, padding=padding, return_tensors="pt")
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        return model(**tokens, **processor(astronaut(), return_tensors="pt")).logits_per_image


WITH_TEXT = {"clip": (save_clip, True), "siglip": (save_siglip, "max_length")}


@pytest.mark.parametrize("name", WITH_TEXT)
def test_prompts_of_transformers(name, tmp_path):
    save, padding = WITH_TEXT[name]
    expected = logits_of_transformers(tmp_path, save(tmp_path), padding)
    assert_agree(ours(load_backbone(name, checkpoint=tmp_path, prompts=PROMPTS)), expected)


def test_tokens_of_clip():
    """transformers' tokenizer of the same words gives the tokens that open_clip's gives."""
    tokens = openai_tokenizer()(PROMPTS, padding="max_length").input_ids
    theirs = open_clip.get_tokenizer("ViT-B-16-quickgelu")(PROMPTS)
    end = theirs.max()
    assert torch.equal(torch.tensor(tokens).where(theirs != 0, end), theirs.where(theirs != 0, end))


WEIGHTS = {name: row.open_clip for name, row in MODELS.items() if row.open_clip}
WEIGHTS["open_clip/ViT-B-16-quickgelu/openai"] = "ViT-B-16-quickgelu/openai"


@pytest.mark.parametrize("name", WEIGHTS)
def test_prompts_of_open_clip(name, tmp_path):
    architecture, tag = WEIGHTS[name].split("/")
    tokenizer, published = architecture, open_clip.get_pretrained_cfg(architecture, tag)
    settings = {f"image_{key}": published[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    model, _, transform = open_clip.create_model_and_transforms(architecture, **settings)
    random_model(model, 100)
    if name == "siglip":
        random_model(model, 117, -12.9)
        siglip_tokenizer(64).save_pretrained(tmp_path)
        (tmp_path / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": open_clip.get_model_config(architecture)})
        )
        tokenizer = f"local-dir:{tmp_path}"
    torch.save(model.state_dict(), tmp_path / "x.pt")
    with torch.no_grad():
        texts = open_clip.get_tokenizer(tokenizer)(PROMPTS)
        expected, _ = model.get_logits(transform(astronaut()).unsqueeze(0), texts)
    assert_agree(ours(load_backbone(name, checkpoint=tmp_path / "x.pt", prompts=PROMPTS)), expected)
