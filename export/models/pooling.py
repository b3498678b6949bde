"""What a head reads of a model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onnxplain.contract import OnnxplainError
from onnxplain.contract.errors import one_line

from .records import LoadedModel

Pool = Callable[[Tensor, int], Tensor]
POOLINGS: dict[str, Pool] = {
    "cls": lambda tokens, prefix: tokens[:, 0],
    "mean": lambda tokens, prefix: tokens[:, prefix:].mean(1),
    "cls+mean": lambda tokens, prefix: torch.cat([tokens[:, 0], tokens[:, prefix:].mean(1)], 1),
    "own": lambda features, prefix: features,
}
"""What a head reads of the last layer's normalised tokens [batch, tokens, width]: the class token, the mean of the
patches, both one after the other; or the features that the model itself gives (CLIP's embedding, SigLIP's pool)."""


class Pooled(nn.Module):
    """A model that gives pooled features: [batch, 3, H, W] to [batch, width].

    Attributes:
        features: The model that gives what is pooled.
        pooling: A key of POOLINGS.
        prefix: How many tokens stand before the patches.
    """

    def __init__(self, features: nn.Module, pooling: str, prefix: int) -> None:
        super().__init__()
        self.features, self.pooling, self.prefix = features, pooling, prefix

    def forward(self, pixels: Tensor) -> Tensor:
        """The features."""
        return POOLINGS[self.pooling](self.features(pixels), self.prefix)


def pooled(loaded: LoadedModel, pooling: str) -> Pooled:
    """The model that gives what a head reads.

    Args:
        loaded: A model that was loaded for its features.
        pooling: A key of POOLINGS.

    Raises:
        OnnxplainError: If the model does not give that.
    """
    features = loaded.model if pooling == "own" else loaded.tokens
    if features is None:
        raise OnnxplainError(
            f"a head on {loaded.source} can read the model's own features only: give `head_pooling='own'`"
        )
    if "cls" in pooling and not loaded.class_token:
        raise OnnxplainError(
            f"the model has no class token to be read by pooling {pooling}; `head_pooling` can be mean or own"
        )
    return Pooled(features, pooling, loaded.prefix)


def features_width(loaded: LoadedModel, pooling: str) -> int:
    """How many features a pooling gives.

    Raises:
        OnnxplainError: If the model does not give them, or fails on an image of its size.
    """
    model = pooled(loaded, pooling).eval()
    try:
        with torch.no_grad():
            return int(model(torch.zeros(1, 3, *loaded.preprocessing.size)).shape[-1])
    except Exception as error:  # the model's code may raise anything
        raise OnnxplainError(f"the model fails on an image of its size: {one_line(error)}") from error
