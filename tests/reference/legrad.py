"""LeGrad's layer-wise gradients of a timm VisionTransformer by autograd, block by block on the unmodified model.

Bousselham et al., "LeGrad", 2024, arXiv 2404.03214.
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from .eager import explicit_attention, target_logits


def embed(model: VisionTransformer, pixels: Tensor) -> Tensor:
    """The tokens that enter the first block, [B, N, D]."""
    return model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels))))


def score(model: VisionTransformer, tokens: Tensor, target: Tensor) -> Tensor:
    """s [B]: the target's logit when every token is the mean of all tokens [B, N, D] after a block."""
    mean = tokens.mean(dim=1, keepdim=True).expand_as(tokens)
    return target_logits(model.forward_head(model.norm(mean)), target)


def layer_gradient(model: VisionTransformer, pixels: Tensor, target: Tensor) -> Tensor:
    """D_l = d s_l / d A_l, [B, L, H, N, N]: s_l from the output of the block that contains A_l.

    A block with several attention matrices (ParallelThingsBlock) gives several layers with the same score.
    """
    if model.training:
        raise ValueError("call model.eval() first")
    layers: list[Tensor] = []
    with torch.enable_grad():
        x = embed(model, pixels)
        for block in model.blocks:
            with explicit_attention() as recorded:
                x = block(x)
            layers += torch.autograd.grad(score(model, x, target).sum(), recorded, retain_graph=True)
    return torch.stack(layers, dim=1).detach()
