"""Small models of pictures and texts, with tokenizers, as their libraries save them."""

import math
from string import ascii_lowercase

import open_clip
import tokenizers
import torch
import transformers

from tests.helpers.real_image import randomise

SIZE = 42
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": SIZE,
    "patch_size": 14,
}  # fmt: skip
LENGTH = 48
TEXT = {**SMALL, "num_hidden_layers": 1, "max_position_embeddings": LENGTH, "bos_token_id": 0, "eos_token_id": 1}
START, END = "<|startoftext|>", "<|endoftext|>"

OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 48, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": LENGTH, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""A configuration of open_clip, whose tokenizer comes with it."""


def clip_tokenizer():
    """As CLIP's, of letters and one word."""
    words = [START, END, *ascii_lowercase, *(f"{letter}</w>" for letter in [*ascii_lowercase, "."]), "ca", "cat</w>"]
    merges = [("c", "a"), ("ca", "t</w>")]
    vocabulary = {word: index for index, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocabulary, merges, model_max_length=LENGTH)


def siglip_tokenizer(length=LENGTH):
    """As SigLIP's, of whole words: padded with the token at the end, and the model told nothing of that."""
    words = ["</s>", "<unk>", *["a", "the", "photo", "of", "this", "is", "cat", "dog", "very", "large", "two", "crane"]]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, "<unk>")
    )
    inner.normalizer = tokenizers.normalizers.Lowercase()
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="</s>", eos_token="</s>", unk_token="<unk>", model_max_length=length,
        model_input_names=["input_ids"],
    )  # fmt: skip


def random_model(model, scale, bias=None):
    """With random weights, but such a temperature and bias."""
    randomise(model)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
        if bias is not None:
            model.logit_bias.fill_(bias)
    return model


def save_clip(folder):
    """A CLIPModel, with its processor in one file."""
    tokenizer = clip_tokenizer()
    config = transformers.CLIPConfig(
        vision_config=SMALL, text_config={**TEXT, "vocab_size": len(tokenizer)}, projection_dim=24
    )
    model = random_model(transformers.CLIPModel(config), 30)
    model.save_pretrained(folder)
    pictures = transformers.CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": SIZE, "width": SIZE})
    transformers.CLIPProcessor(pictures, tokenizer).save_pretrained(folder)
    return model


def save_siglip(folder):
    """A SiglipModel, with image processor and tokenizer each in a file of its own."""
    tokenizer = siglip_tokenizer()
    config = transformers.SiglipConfig(vision_config=SMALL, text_config={**TEXT, "vocab_size": len(tokenizer)})
    model = random_model(transformers.SiglipModel(config), 12, -7)
    model.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def save_open_clip(monkeypatch, folder):
    """A model of open_clip, known to it as tiny, its checkpoint x.pt as its training writes them."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", OPEN_CLIP)
    model = random_model(open_clip.create_model("tiny", load_weights=False), 30)
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, folder / "x.pt")
    return model
