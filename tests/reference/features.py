"""The features of the last layer's tokens, by a forward hook on a timm model."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def features(model: nn.Module, pixels: Tensor) -> Tensor:
    """What the final norm of tokens gives, [batch, tokens, width]; it changes nothing where only the mean is normed."""
    found: list[Tensor] = []
    hook = model.norm.register_forward_hook(lambda module, args, result: found.append(result))
    try:
        model(pixels)
    finally:
        hook.remove()
    (result,) = found
    return result
