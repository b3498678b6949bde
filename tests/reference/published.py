"""The gradient of attention and transformer attribution at the cost they have as published, for benchmarks.

The values are those of `eager` and `chefer`, to rounding. What the published programs (Chefer et al. CVPR 2021, and for
gradient rollout vit-explain) spend beside, and these do too: a complete backward pass, which gives every weight its
gradient, the graph being retained; and a relevance pass under autograd, which keeps all that it computes until it is
over. Here as in `chefer`, a linear layer takes eight matrix products, as both parts of the alpha-beta rule are computed
whatever beta is (`propagation.linear`).
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from . import chefer
from .eager import explicit_attention, target_logits


def _backward(model: nn.Module, logits: Tensor, target: Tensor, attention: list[Tensor]) -> list[Tensor]:
    """d logit_target / d A_l, by a backward pass that also leaves the gradients of the weights in the model."""
    for matrix in attention:
        matrix.retain_grad()
    model.zero_grad()
    target_logits(logits, target).sum().backward(retain_graph=True)
    return [matrix.grad for matrix in attention if matrix.grad is not None]


def attention_layers(model: nn.Module, pixels: Tensor, target: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """([A_l], [d logit_target / d A_l]), each [B, H, N, N], for one target class (int64 [B]) per image."""
    with torch.enable_grad(), explicit_attention() as attention:
        gradients = _backward(model, model(pixels), target, attention)
    return [matrix.detach() for matrix in attention], gradients


def transformer_attribution(model: VisionTransformer, pixels: Tensor, target: Tensor) -> Tensor:
    """Token maps [B, h, w], as `chefer.transformer_attribution`."""
    with torch.enable_grad():
        walked = chefer.forward(model, pixels)
        gradients = _backward(model, walked.logits, target, walked.tape.attention)
        walked.back(torch.nn.functional.one_hot(target, walked.logits.shape[1]).to(walked.logits))
    with torch.no_grad():
        identity = torch.eye(gradients[0].shape[-1], dtype=pixels.dtype, device=pixels.device)
        joint = identity.expand(len(pixels), -1, -1)
        for layer, gradient in enumerate(gradients):
            joint = torch.bmm(identity + (gradient * walked.tape.relevance[layer]).clamp(min=0).mean(dim=1), joint)
        return (chefer.readout(model) @ joint)[:, model.num_prefix_tokens :].reshape(-1, *model.patch_embed.grid_size)
