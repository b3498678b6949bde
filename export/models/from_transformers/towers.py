"""Models of transformers as modules from pixels to a tensor, and what is read of each kind of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Read = Callable[[nn.Module, Any], Tensor]
"""(tower, its output) to a tensor of the output."""

TOWERS = {
    "vit": "ViTModel",
    "deit": "DeiTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "beit": "BeitModel",
    "vit_mae": "ViTMAEModel",
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
}
"""By model type, the class that gives features."""
TOWERS_WITHOUT_POOLER = ("ViTModel", "DeiTModel")
"""Classes whose pooler is not used: weights of classifiers have none."""

POST_NORM = "vision_model.post_layernorm"
TOKENS: dict[str, Read] = {
    "CLIPVisionModelWithProjection": lambda tower, out: tower.get_submodule(POST_NORM)(out.last_hidden_state),
}
"""By class, how its normalised tokens are read, where they are not the last hidden state."""
FEATURES: dict[str, Read] = {
    "CLIPVisionModelWithProjection": lambda tower, out: out.image_embeds,
    "SiglipVisionModel": lambda tower, out: out.pooler_output,
    "BeitModel": lambda tower, out: out.pooler_output,
}
"""By class, how its features are read, where they are not the class token."""
WITHOUT_CLASS_TOKEN = ("SiglipVisionModel",)
"""Classes that have no class token."""
PREFIX: dict[str, Callable[[Any], int]] = {
    "deit": lambda config: 2,
    "dinov2_with_registers": lambda config: 1 + config.num_register_tokens,
    "dinov3_vit": lambda config: 1 + config.num_register_tokens,
    "siglip_vision_model": lambda config: 0,
}
"""By model type, how many tokens stand before the patches, where it is not the class token alone."""


class Classifier(nn.Module):
    """A classifier of transformers: [batch, 3, H, W] to logits [batch, classes].

    Args:
        model: Of the library.
        options: More arguments that it is called with.
    """

    def __init__(self, model: nn.Module, options: dict[str, bool]) -> None:
        super().__init__()
        self.model, self.options = model, options

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.model(pixel_values=pixels, **self.options).logits
        return logits


class Tower(nn.Module):
    """A vision model of transformers: [batch, 3, H, W] to what ``read`` takes of its output.

    Args:
        model: Of the library.
        options: More arguments that it is called with.
        read: Takes tokens or features from the output.
    """

    def __init__(self, model: nn.Module, options: dict[str, bool], read: Read) -> None:
        super().__init__()
        self.model, self.options, self.read = model, options, read

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens or features."""
        return self.read(self.model, self.model(pixel_values=pixels, **self.options))


def features_of(model: nn.Module, options: dict[str, bool]) -> Tower:
    """The model that gives the features of a class in TOWERS."""
    return Tower(model, options, FEATURES.get(type(model).__name__, lambda tower, out: out.last_hidden_state[:, 0]))


def tokens_of(model: nn.Module, options: dict[str, bool]) -> Tower:
    """The model that gives the normalised tokens of a class in TOWERS."""
    return Tower(model, options, TOKENS.get(type(model).__name__, lambda tower, out: out.last_hidden_state))
