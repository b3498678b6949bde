"""Attention matrices and their gradients by autograd, on an unmodified eager model.

While `explicit_attention()` is active, `torch.nn.functional.scaled_dot_product_attention` is the written-out
softmax(q k' scale + mask) v, and every softmax output is recorded. Whatever calls the function through its module
is covered: timm, transformers ("sdpa"), torchvision and open_clip (`nn.MultiheadAttention`). A patch, and not a
TorchFunctionMode, because under a mode the latter hides its inner call. Not thread-safe.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Edit = Callable[[int, Tensor], Tensor]


def _scores(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None) -> Tensor:
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return scores
    return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask


@contextmanager
def explicit_attention(edit: Edit | None = None) -> Iterator[list[Tensor]]:
    """Record the attention matrices [B, H, N, N], in order of execution; `edit(layer, matrix)` may replace one."""
    recorded: list[Tensor] = []

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p:
            raise ValueError("attention dropout is active: call model.eval()")
        if enable_gqa:
            groups = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
        matrix = _scores(query, key, attn_mask, is_causal, scale).softmax(dim=-1)
        if edit is not None:
            matrix = edit(len(recorded), matrix)
        if torch.is_grad_enabled() and not matrix.requires_grad:
            matrix.requires_grad_()
        recorded.append(matrix)
        return matrix @ value

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with mock.patch.object(F, "scaled_dot_product_attention", attend):
            yield recorded
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def target_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The logit of one class per image: logits [B, C], target int64 [B] -> [B]."""
    if target.shape != logits.shape[:1]:
        raise ValueError(f"target must be [{logits.shape[0]}], one class per image, got {list(target.shape)}")
    return logits.gather(1, target.to(logits.device)[:, None])[:, 0]


def attention_layers(model: nn.Module, pixels: Tensor, target: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """(logits [B, C], [A_l], [d logit_target / d A_l]), layer by layer: shapes may differ (attention pools)."""
    with torch.enable_grad(), explicit_attention() as recorded:
        output = model(pixels)
        logits = output.logits if hasattr(output, "logits") else output
        if not recorded:
            raise ValueError("the model never called scaled_dot_product_attention")
        gradients = torch.autograd.grad(target_logits(logits, target).sum(), recorded)
    return logits.detach(), [matrix.detach() for matrix in recorded], list(gradients)


def attention_and_gradient(model: nn.Module, pixels: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(logits [B, C], attention [B, L, H, N, N], gradient [B, L, H, N, N]) for one target class per image.

    The sum of the target logits is differentiated once; images do not interact, so each gets its own gradient.
    """
    logits, attention, gradient = attention_layers(model, pixels, target)
    return logits, torch.stack(attention, dim=1), torch.stack(gradient, dim=1)
