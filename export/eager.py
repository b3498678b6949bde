"""What the gate compares with: the unmodified model in eager PyTorch, attention recorded, gradients from autograd."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..lrp_graph import REDUCTIONS, Layout

SOFTMAX = (torch.softmax, Tensor.softmax, nn.functional.softmax)


RAW = {"attention", "attention_gradient"}
TOLD = {"logits", "pixel_gradient", *RAW, *(name for name, item in REDUCTIONS.items() if RAW.issuperset(item.inputs))}
"""The outputs that autograd on the model can tell."""


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


@torch.enable_grad()
def eager_outputs(
    model: nn.Module, pixels: Tensor, target: Tensor, layout: Layout, names: Collection[str]
) -> dict[str, Tensor]:
    """Those of ``names`` that autograd on the model itself can tell, as an artifact should give them, shapes as there.

    pixels: [batch, 3, H, W]; target: int64 [batch, targets], class indices only. layout: for the reductions.
    """
    if not set(names) & TOLD:
        return {}
    pixels = pixels.detach().requires_grad_()
    with _recording() as attention:
        logits = model(pixels)
    given = [matrix.detach() for matrix in attention]
    columns = []
    for column in target.unbind(1):
        score = logits.gather(1, column[:, None]).sum()
        *gradient, of_pixels = torch.autograd.grad(score, [*attention, pixels], retain_graph=True)
        columns.append(_layered({"attention": given, "attention_gradient": gradient}, layout, names))
        columns[-1]["pixel_gradient"] = of_pixels
    outputs = {"logits": logits.detach()} | _layered({"attention": given}, layout, names)
    outputs |= {name: torch.stack([column[name] for column in columns], 1) for name in columns[0].keys() - outputs}
    return {name: tensor for name, tensor in outputs.items() if name in names}


def _layered(layers: Mapping[str, Sequence[Tensor]], layout: Layout, names: Collection[str]) -> dict[str, Tensor]:
    """Of raw tensors given layer by layer, what of them and their reductions is in ``names``: [batch, layers, …]."""
    outputs = {name: torch.stack(list(tensors), 1) for name, tensors in layers.items() if name in names}
    for name in set(names) & REDUCTIONS.keys():
        if layers.keys() >= set(REDUCTIONS[name].inputs):
            outputs[name] = REDUCTIONS[name](layout, layers, 1)
    return outputs
