"""Zero-shot heads: prompts become classes by the text encoder that was trained with the image tower."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from onnxplain.contract import OnnxplainError
from onnxplain.contract.errors import one_line

from .records import LoadedModel, TextEncoder

BATCH = 64
"""How many texts are encoded at once."""
EPSILON = 1e-24
"""Added to the mean square of an embedding, so that one of zeros is not divided by zero."""


class ZeroShot(nn.Module):
    """Logits of images: scale * cosine of the image's embedding with each text's + bias.

    The embedding is normalised by the root of its mean square, because the backward passes have rules for that op: for
    relevance it is a factor that is held constant, as layer norm's is.

    Args:
        features: Model of images, [batch, 3, H, W] to embeddings [batch, width].
        texts: Embeddings of the classes, [classes, width], each of length 1.
        scale: Of the cosine.
        bias: Added to each logit, None for none.
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


def zero_shot(
    loaded: LoadedModel, prompts: Sequence[str], templates: Sequence[str], progress: Callable[[str], None]
) -> LoadedModel:
    """A model with the classes that prompts name.

    Args:
        loaded: A model with its text encoder.
        prompts: The classes.
        templates: Sentences with {} where the class goes, at least one.
        progress: Called with how many texts are encoded.

    Raises:
        OnnxplainError: If the text encoder cannot read the prompts.
    """
    encoder = loaded.text
    assert encoder is not None, "a library with has_text gives one or raises"
    if encoder.bias is None and len(prompts) == 1:
        raise OnnxplainError(
            f"the model compares classes, so one alone is always certain: give `prompts` of {prompts[0]!r} and "
            "another, such as 'something else'"
        )
    texts = _embed(encoder, prompts, templates, progress)
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
def _embed(
    encoder: TextEncoder, prompts: Sequence[str], templates: Sequence[str], progress: Callable[[str], None]
) -> Tensor:
    """Embeddings of the classes, float32 [classes, width], each of length 1.

    A class is the normalised mean of the normalised embeddings of its sentences: Radford et al., "Learning Transferable
    Visual Models From Natural Language Supervision", 2021, section 3.1.4.
    """
    texts = [template.replace("{}", prompt) for prompt in prompts for template in templates]
    parts = []
    try:
        for text in texts:
            length = encoder.count_tokens(text)
            if length > encoder.limit:
                raise OnnxplainError(
                    f"the prompt {text!r} takes {length} tokens, the text encoder reads {encoder.limit}"
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
