"""What the gate compares with: the unmodified model in eager PyTorch, attention recorded, gradients from autograd."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SOFTMAX = (torch.softmax, Tensor.softmax, nn.functional.softmax)


class _Recorder(TorchFunctionMode):
    """Collects every softmax result of the shape of an attention matrix, [batch, heads, queries, keys]."""

    def __init__(self) -> None:
        super().__init__()
        self.attention: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in SOFTMAX and result.dim() == 4:
            self.attention.append(result)
        return result

    def scaled_dot_product_attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """PyTorch's function of that name, written out so that the matrix exists."""
        scores = query @ key.mT * (scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
        attention = torch.ops.aten.softmax.int(scores if attn_mask is None else scores + attn_mask, -1)
        self.attention.append(attention)
        return attention @ value


@contextmanager
def _recording() -> Iterator[list[Tensor]]:
    recorder = _Recorder()
    # Patched, not intercepted by the mode, which does not see calls inside nn.MultiheadAttention.
    with patch.object(nn.functional, "scaled_dot_product_attention", recorder.scaled_dot_product_attention), recorder:
        yield recorder.attention


def eager_tensors(model: nn.Module, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Logits, attention and its gradient as an artifact should give them, shapes as there.

    pixels: [batch, 3, H, W]; target: int64 [batch, targets], class indices only.
    """
    with torch.enable_grad(), _recording() as attention:
        logits = model(pixels.requires_grad_())
    gradients = [
        torch.stack(torch.autograd.grad(logits.gather(1, column[:, None]).sum(), attention, retain_graph=True), 1)
        for column in target.unbind(1)
    ]
    return {
        "logits": logits.detach(),
        "attention": torch.stack(attention, 1).detach(),
        "attention_gradient": torch.stack(gradients, 1),
    }
