"""Vision Transformers cut at the token stream between their blocks, in terms of their own modules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


@dataclass(frozen=True)
class Parts:
    """embed: pixels [B, 3, H, W] -> tokens [B, N, D]; blocks: tokens -> tokens; head: tokens -> logits [B, C].

    prefix: tokens before the patches. grid: (h, w).
    """

    embed: Callable[[Tensor], Tensor]
    blocks: Sequence[Callable[[Tensor], Tensor]]
    head: Callable[[Tensor], Tensor]
    prefix: int
    grid: tuple[int, int]


def parts(model: nn.Module) -> Parts:
    """Of timm's VisionTransformer and torchvision's (for images of the size that it was built for)."""
    if model.training:
        raise ValueError("call model.eval() first")
    if isinstance(model, VisionTransformer):
        return Parts(
            lambda pixels: model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels)))),
            list(model.blocks),
            lambda tokens: model.forward_head(model.norm(tokens)),
            model.num_prefix_tokens,
            tuple(model.patch_embed.grid_size),
        )

    def embed(pixels: Tensor) -> Tensor:
        patches = model._process_input(pixels)
        tokens = torch.cat((model.class_token.expand(len(patches), -1, -1), patches), dim=1)
        return tokens + model.encoder.pos_embedding

    side = model.image_size // model.patch_size
    return Parts(
        embed,
        list(model.encoder.layers),
        lambda tokens: model.heads(model.encoder.ln(tokens)[:, 0]),
        1,
        (side, side),
    )
