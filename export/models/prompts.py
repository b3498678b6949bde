"""Zero-shot heads: prompts become classes by the text encoder that was trained with the image tower."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from onnxplain.contract import OnnxplainError
from onnxplain.contract.errors import one_line

from .sources import Loaded, TextEncoder

BATCH = 64
"""Texts that are encoded at once."""
EPSILON = 1e-24
"""Added to the mean square of an embedding, so that one of zeros has a direction: none."""


class ZeroShot(nn.Module):
    """Logits of images: scale * cosine of the image's embedding with each text's + bias.

    The embedding is normalised by the root of its mean square, as that is an op to which the passes have rules: for
    relevance it is a factor that is held constant, as layer norm's is.
    features: [batch, 3, H, W] -> [batch, width]. texts: [classes, width], of length 1.
    """

    def __init__(self, features: nn.Module, texts: Tensor, scale: float, bias: float | None) -> None:
        super().__init__()
        classes, width = texts.shape
        self.features = features
        self.norm = nn.RMSNorm(width, EPSILON, elementwise_affine=False)
        self.head = nn.utils.skip_init(nn.Linear, width, classes, bias=bias is not None)
        weights = {"weight": texts * (scale / math.sqrt(width))}
        self.head.load_state_dict(weights if bias is None else weights | {"bias": torch.full((classes,), bias)})

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.head(self.norm(self.features(pixels)))
        return logits


def check_prompts(prompts: Sequence[str] | None, templates: Sequence[str]) -> None:
    """Raise OnnxplainError unless these are texts of which classes can be made."""
    for argument, given in (("prompts", prompts), ("templates", templates)):
        if isinstance(given, str) or not all(isinstance(text, str) for text in given or ()):
            raise OnnxplainError(f"`{argument}` must be a list of texts, got {given!r}")
    if prompts is None:
        if templates:
            raise OnnxplainError("`templates` are what `prompts` are put into; give `prompts` as well")
        return
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise OnnxplainError(f"`prompts` need words for each class, none of them empty, got {list(prompts)}")
    twice = next((prompt for place, prompt in enumerate(prompts) if prompt in prompts[:place]), None)
    if twice is not None:
        raise OnnxplainError(f"`prompts` name the class {twice!r} twice")
    without = next((template for template in templates if "{}" not in template), None)
    if without is not None:
        raise OnnxplainError(
            f"`templates` must say with {{}} where the class goes, such as 'a photo of a {{}}.', got {without!r}"
        )


def zero_shot(
    loaded: Loaded, prompts: Sequence[str], templates: Sequence[str], progress: Callable[[str], None]
) -> Loaded:
    """The model with the classes that ``prompts`` name. Raises OnnxplainError if its text encoder cannot read them."""
    encoder = loaded.text
    assert encoder is not None, "every library in WITH_TEXT gives one or raises"
    if encoder.bias is None and len(prompts) == 1:
        raise OnnxplainError(
            f"the model compares classes, so one alone is always certain: give `prompts` of {prompts[0]!r} and "
            "another, such as 'something else'"
        )
    texts = _embedded(encoder, prompts, templates, progress)
    return replace(
        loaded,
        model=ZeroShot(loaded.model, texts, encoder.scale, encoder.bias),
        classes=len(prompts),
        labels=tuple(prompts),
        activation="softmax" if encoder.bias is None else "sigmoid",
        tokens=None,
        text=None,
    )


@torch.no_grad()
def _embedded(
    encoder: TextEncoder, prompts: Sequence[str], templates: Sequence[str], progress: Callable[[str], None]
) -> Tensor:
    """[classes, width] of length 1: the direction of the mean of the directions of a class's sentences.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 3.1.4.
    """
    texts = [template.replace("{}", prompt) for prompt in prompts for template in templates]
    parts = []
    try:
        for text in texts:
            if encoder.tokens(text) > encoder.limit:
                raise OnnxplainError(
                    f"the prompt {text!r} takes {encoder.tokens(text)} tokens, the text encoder reads {encoder.limit}"
                )
        for start in range(0, len(texts), BATCH):
            progress(f"encoding prompts, {start} of {len(texts)}")
            parts.append(nn.functional.normalize(encoder.encode(texts[start : start + BATCH]).float(), dim=-1))
    except OnnxplainError:
        raise
    except Exception as error:  # a tokenizer that is not the model's gives tokens that it does not know
        raise OnnxplainError(f"the model's text encoder fails on the prompts: {one_line(error)}") from error
    means = torch.cat(parts).unflatten(0, (len(prompts), len(templates))).mean(1)
    return nn.functional.normalize(means, dim=-1)
