"""LeGrad's layer-wise gradients by autograd, block by block on the unmodified model.

Bousselham et al., "LeGrad", 2024, arXiv 2404.03214.
"""

import torch
from torch import Tensor, nn

from .eager import explicit_attention, target_logits
from .parts import parts


def layer_gradient(model: nn.Module, pixels: Tensor, target: Tensor) -> Tensor:
    """D_l = d s_l / d A_l, [B, L, H, N, N], for one class (int64 [B]) per image.

    s_l is the target's logit when every token that leaves the last block is the mean of all tokens that leave the block
    of A_l. A block with several attention matrices (ParallelThingsBlock) gives several layers of the same score.
    """
    cut = parts(model)
    layers: list[Tensor] = []
    with torch.enable_grad():
        x = cut.embed(pixels)
        for block in cut.blocks:
            with explicit_attention() as recorded:
                x = block(x)
            logits = cut.head(x.mean(dim=1, keepdim=True).expand_as(x))
            layers += torch.autograd.grad(target_logits(logits, target).sum(), recorded, retain_graph=True)
    return torch.stack(layers, dim=1).detach()
