"""What passes between the steps of loading a model.

``load_backbone`` makes a Request of its arguments. ``loading.py`` passes it to a loader, the function ``load`` of a
module from_<library>, which returns a LoadedModel. ``load_backbone`` puts a head on that, if one is asked for, and
makes the Backbone that export reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onnxplain.catalog import Row
from onnxplain.contract import Preprocessing


@dataclass(frozen=True)
class Request:
    """What a loader is asked for.

    Attributes:
        row: Of the catalog, the model.
        checkpoint: A file of weights in place of the published ones; ``loading.py`` finds it.
        random_init: Whether the weights are to be random instead.
        num_classes: Of the model's own head, None for as many as it has.
        image_size: (height, width) in pixels, None for the model's own.
        needs_features: Whether features are needed in place of classes, for a head that is put on them.
        needs_text: Whether the text encoder is needed as well.
        progress: Called with how far downloads are.
        preprocessing: Fields of Preprocessing that replace the model's own, which need not exist then.
    """

    row: Row
    checkpoint: Path | None = None
    random_init: bool = False
    num_classes: int | None = None
    image_size: tuple[int, int] | None = None
    needs_features: bool = False
    needs_text: bool = False
    progress: Callable[[str], None] = lambda stage: None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wants_published(self) -> bool:
        """Whether the published weights are to be loaded."""
        return self.checkpoint is None and not self.random_init

    def source(self, published: str) -> str:
        """Where the weights come from, in words; ``published``: the words for the published ones."""
        if self.random_init:
            return "random"
        return published if self.checkpoint is None else self.checkpoint.name


@dataclass(frozen=True)
class TextEncoder:
    """The text half of a model of images and texts, whose logits are scale * cosine of their embeddings + bias.

    Attributes:
        encode: Texts to embeddings, float32 [texts, width].
        count_tokens: How many tokens a text becomes.
        limit: How many tokens the encoder reads.
        scale: Of the cosine.
        bias: None where the classes of an image exclude each other (softmax); with one, each is judged alone (sigmoid).
    """

    encode: Callable[[Sequence[str]], torch.Tensor]
    count_tokens: Callable[[str], int]
    limit: int
    scale: float
    bias: float | None


@dataclass(frozen=True)
class LoadedModel:
    """What a loader returns: a model with its weights, and what is known of it.

    Attributes:
        model: float32 [batch, 3, H, W] to [batch, outputs].
        classes: How many classes the outputs are, 0 where they are features.
        preprocessing: Of the images that the model was trained on.
        source: Where the weights come from, in words.
        sha256: Of the file of weights, of the demo model of the weights themselves; None where there is neither.
        labels: Of the classes, None where they are not known.
        activation: "softmax", or "sigmoid" where several classes can be true at once.
        tokens: The same model with another output, the normalised tokens of the last layer [batch, tokens, width]; None
            where its library does not give them.
        prefix: How many tokens stand before those of the patches.
        class_token: Whether the first of them is a class token.
        text: The text encoder, if it was asked for.
    """

    model: nn.Module
    classes: int
    preprocessing: Preprocessing
    source: str
    sha256: str | None = None
    labels: tuple[str, ...] | None = None
    activation: str = "softmax"
    tokens: nn.Module | None = None
    prefix: int = 0
    class_token: bool = True
    text: TextEncoder | None = None
