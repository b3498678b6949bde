"""What the libraries that models come from have in common: what is asked of them, and what they give."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onnxplain.contract import OnnxplainError, Preprocessing

SEED = 0
"""Of weights that are not loaded."""


@dataclass(frozen=True)
class Request:
    """What a model is to be built with.

    checkpoint: a file to load, or None for the published weights. random_init: load nothing. num_classes, image_size
    (height, width), None for the model's own. features: a head will be put on the model, its own is not needed. drop:
    beginnings of keys in a checkpoint that are not of this model. text: the text encoder is needed as well. report: is
    told in words how far downloads are. preprocessing: fields of Preprocessing, for models that have
    none; all others' are replaced afterwards.
    """

    checkpoint: Path | None = None
    random_init: bool = False
    num_classes: int | None = None
    image_size: tuple[int, int] | None = None
    features: bool = False
    drop: tuple[str, ...] = ()
    text: bool = False
    report: Callable[[str], None] = lambda stage: None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TextEncoder:
    """The text half of a model of pictures and texts, whose logits are scale * cosine of their embeddings + bias.

    encode: texts -> float32 [texts, width]. tokens: how many of its input a text takes, at most ``limit``.
    bias: None where the classes of a picture exclude each other (softmax); with one, each is judged alone (sigmoid).
    """

    encode: Callable[[Sequence[str]], torch.Tensor]
    tokens: Callable[[str], int]
    limit: int
    scale: float
    bias: float | None


@dataclass(frozen=True)
class Loaded:
    """A model with its weights, [batch, 3, H, W] -> [batch, outputs].

    classes: how many the outputs stand for, 0 where they are features. source, sha256: of the weights. labels: where
    they are known. activation: of the classes, "softmax" or "sigmoid". tokens: the same model, giving the last layer's
    normalised tokens [batch, tokens, width], of which ``prefix`` stand before the patches, the first of them the class
    token if there is one; None where the source cannot tell. text: the encoder of texts, where one was asked for.
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


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """What libraries fill with random numbers inside is the same each time; outside nothing is changed."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            random.seed(SEED)
            np.random.seed(SEED)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def crop_pct(size: tuple[int, int], resized: tuple[int, int]) -> float:
    """size / resized, (height, width) each, such that timm's floor(size / crop_pct) is ``resized`` again.

    Raises OnnxplainError if no number does that for height and width.
    """
    share = min(length / before for length, before in zip(size, resized, strict=True))
    for number in (share, float(np.nextafter(share, 0))):
        if tuple(int(length / number) for length in size) == resized:
            return number
    raise OnnxplainError(
        f"pictures are cropped from {resized[0]} x {resized[1]} to {size[0]} x {size[1]} (height x width), which must "
        "be the same share of both"
    )


def check_patches(name: str, size: tuple[int, int], patch: tuple[int, int]) -> None:
    """Raise OnnxplainError unless the patches fill the image."""
    if any(pixels % step for pixels, step in zip(size, patch, strict=True)):
        raise OnnxplainError(
            f"`image_size` must be a multiple of {name}'s patches of {patch[0]} x {patch[1]} pixels, "
            f"got {size[0]} x {size[1]}"
        )


class Method(nn.Module):
    """A method of a model as a module of its own."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the method gives."""
        result: torch.Tensor = getattr(self.model, self.name)(pixels)
        return result
