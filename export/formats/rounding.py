"""Large weights as float16: the model with its weights rounded, and what of it can be stored so."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

MIN_ENTRIES = 4096
"""Of a weight that is worth it. Biases and the weights of norms stay as they are."""
MAX_LOSS = 1e-3
"""Norm of what rounding changes in a weight, relative to the weight's: float16 in its range changes 5e-4 at most. Where
it is more, as numbers are beyond 65504 or below 6e-5, the weight stays as it is."""


def rounded_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of the model whose large weights are numbers that ``dtype`` has, where these are close to them."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in result.parameters():
            rounded = parameter.to(dtype).to(parameter.dtype)
            exact = parameter.double()  # whose norms reach neither infinity nor zero
            loss = (rounded.double() - exact).norm()  # infinite or NaN where a number of float16 is
            if _is_large(parameter) and loss.isfinite() and loss <= MAX_LOSS * exact.norm():
                parameter.copy_(rounded)
    return result


def narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A large weight in ``dtype`` if that has all of its numbers; else the tensor itself."""
    if tensor.dtype == dtype or not _is_large(tensor):
        return tensor
    narrow = tensor.to(dtype)
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else tensor


def _is_large(tensor: Tensor) -> bool:
    return tensor.dim() > 1 and tensor.numel() >= MIN_ENTRIES
