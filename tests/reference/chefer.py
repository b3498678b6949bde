"""Chefer's LRP relevance of every attention matrix and pixel of a timm VisionTransformer, transformer attribution.

Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021, with two
deliberate differences: residual sums are normalised per image, and relevance that several consumers hand back is
added up without a division in between.
"""

from dataclasses import dataclass

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from . import propagation
from .blocks import WALKS, Back, Step, Tape, linear
from .eager import target_logits


@dataclass(frozen=True)
class Forward:
    """One forward pass with stored activations; `back` sends the logits' relevance to the first block's input."""

    logits: Tensor
    tape: Tape
    back: Back

    def relevance(self, target: Tensor) -> Tensor:
        """Run the relevance pass from the targets' one-hot; the relevance of the embedded tokens [B, N, D]."""
        start = torch.nn.functional.one_hot(target, self.logits.shape[1]).to(self.logits)
        with torch.no_grad():
            return self.back(start)

    def stacked_relevance(self) -> Tensor:
        """[B, L, H, N, N], after `relevance`."""
        return torch.stack([self.tape.relevance[layer] for layer in range(len(self.tape.attention))], dim=1)


def _pool(model: VisionTransformer, x: Tensor) -> Step:
    """[B, N, D] -> [B, D]: the class token, or the mean of the patches (or of all tokens)."""
    if model.attn_pool is not None or model.global_pool not in ("token", "avg"):
        raise NotImplementedError(f"no relevance walk for global_pool={model.global_pool!r}")
    if model.global_pool == "token":
        return x[:, 0], lambda r: torch.cat((r[:, None], torch.zeros_like(x[:, 1:])), dim=1)
    first = 0 if model.pool_include_prefix else model.num_prefix_tokens
    patches = x[:, first:]

    def back(r: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(x[:, :first]), propagation.mean_tokens(patches, r)), dim=1)

    return patches.mean(dim=1), back


def _head(tape: Tape, model: VisionTransformer, x: Tensor) -> Step:
    """Normalised tokens [B, N, D] -> logits [B, C]."""
    if isinstance(model, VisionTransformerDistilled):
        by_class, back_class = linear(tape, model.head, x[:, 0])
        by_distillation, back_distillation = linear(tape, model.head_dist, x[:, 1])

        def back(r: Tensor) -> Tensor:
            r_class, r_distillation = propagation.add(by_class, by_distillation, r)
            first = torch.stack((back_class(r_class), back_distillation(r_distillation)), dim=1)
            return torch.cat((first, torch.zeros_like(x[:, 2:])), dim=1)

        return (by_class + by_distillation) / 2, back
    pooled, back_pool = _pool(model, x)
    logits, back_linear = linear(tape, model.head, model.fc_norm(pooled))
    return logits, lambda r: back_pool(back_linear(r))


def forward(model: VisionTransformer, pixels: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Forward:
    """The model's forward pass, module by module, with every activation that the relevance pass needs."""
    if model.training:
        raise ValueError("call model.eval() first")
    tape = Tape(alpha, beta)
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels))))
    backs: list[Back] = []
    for module in model.blocks:
        if type(module) not in WALKS:
            raise NotImplementedError(f"no relevance walk for {type(module).__name__}")
        x, back_block = WALKS[type(module)](tape, module, x)
        backs.append(back_block)
    logits, back_head = _head(tape, model, model.norm(x))

    def back(r: Tensor) -> Tensor:
        r = back_head(r)
        for back_block in reversed(backs):
            r = back_block(r)
        return r

    return Forward(logits, tape, back)


def relevance(
    model: VisionTransformer, pixels: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 0.0
) -> Tensor:
    """Relevance of every layer's softmax output, [B, L, H, N, N], for one target class (int64 [B]) per image."""
    with torch.no_grad():
        result = forward(model, pixels, alpha, beta)
    result.relevance(target)
    return result.stacked_relevance()


def _stem(model: VisionTransformer, pixels: Tensor, r: Tensor) -> Tensor:
    """Relevance of the embedded tokens [B, N, D] -> of the pixels [B, 3, H, W].

    The position embedding takes its share of its addition and loses it, and so do the prefix tokens.
    """
    patches = model.patch_embed(pixels).reshape(len(pixels), -1, model.embed_dim)  # a grid if its size may change
    prefix = model.num_prefix_tokens
    if model.pos_embed is not None and model.no_embed_class:
        r, _ = propagation.add(patches, model.pos_embed.expand_as(patches), r[:, prefix:])
    elif model.pos_embed is not None:
        tokens = [model.cls_token, getattr(model, "dist_token", None), model.reg_token]
        constants = [token.expand(len(pixels), -1, -1) for token in tokens if token is not None]
        x = torch.cat([*constants, patches], dim=1)
        r = propagation.add(x, model.pos_embed.expand_as(x), r)[0][:, prefix:]
    else:
        r = r[:, prefix:]
    projection = model.patch_embed.proj
    r = r.transpose(1, 2).unflatten(2, tuple(model.patch_embed.grid_size))
    return propagation.patches_z_b(pixels, projection.weight, projection.stride, r)


def full(model: VisionTransformer, pixels: Tensor, target: Tensor, alpha: float = 1.0, beta: float = 0.0) -> Tensor:
    """Relevance of the pixels, summed over channels, [B, H, W], for one target class (int64 [B]) per image."""
    with torch.no_grad():
        embedded = forward(model, pixels, alpha, beta).relevance(target)
        return _stem(model, pixels, embedded).sum(dim=1)


def readout(model: VisionTransformer) -> Tensor:
    """The row e [N] of the tokens the head reads: class token, class and distillation token, or all patches."""
    tokens = model.patch_embed.num_patches + model.num_prefix_tokens
    row = torch.zeros_like(model.head.weight[0, 0]).detach().repeat(tokens)
    if isinstance(model, VisionTransformerDistilled):
        row[:2] = 1 / 2
    elif model.global_pool == "token":
        row[0] = 1
    else:
        row[model.num_prefix_tokens :] = 1 / model.patch_embed.num_patches
    return row


def transformer_attribution(model: VisionTransformer, pixels: Tensor, target: Tensor) -> Tensor:
    """Token maps [B, h, w] of the paper's main method, as published: one forward, one backward, one relevance pass.

    C_l = mean_h (G_l * R_l)+, map = e (I + C_L) ... (I + C_1), with full matrices, not row-normalised.
    """
    with torch.enable_grad():
        result = forward(model, pixels)
        gradients = torch.autograd.grad(target_logits(result.logits, target).sum(), result.tape.attention)
    result.relevance(target)
    with torch.no_grad():
        joint = identity = torch.eye(gradients[0].shape[-1], dtype=pixels.dtype, device=pixels.device)
        for layer, gradient in enumerate(gradients):
            update = (gradient * result.tape.relevance[layer]).clamp(min=0).mean(dim=1)
            joint = (identity + update) @ joint
        rows = readout(model) @ joint
    return rows[:, model.num_prefix_tokens :].reshape(-1, *model.patch_embed.grid_size)
