"""What the gate compares with: the unmodified model in eager PyTorch, attention recorded, gradients from autograd."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from onnxplain.contract import REDUCTIONS
from onnxplain.contract.outputs import OUTPUTS
from onnxplain.lrp_graph import LayerOutputs, Layout, pool_outputs, raw_inputs

SOFTMAX = (torch.softmax, Tensor.softmax)


RAW = {"attention", "attention_gradient"}
_LAYERED = {*RAW, *(name for name, item in REDUCTIONS.items() if RAW.issuperset(raw_inputs(item)))}
BY_AUTOGRAD = {"logits", "pixel_gradient", *_LAYERED, *pool_outputs(_LAYERED)}
"""The outputs that autograd on the model can tell."""
OF_FORWARD = {"logits", *(name for name in BY_AUTOGRAD if name in OUTPUTS and OUTPUTS[name].passes == ("attention",))}
"""Those of them that no gradient is needed for."""


class _Recorder(TorchFunctionMode):
    """Collects every softmax result of attention's shape, [batch, heads, queries, keys], or the first two in one."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.attention: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return self._record(result) if function in SOFTMAX else result

    def _record(self, result: Tensor) -> Tensor:
        if result.dim() == 4:
            self.attention.append(result)
        if result.dim() != 3:
            return result
        self.attention.append(result.unflatten(0, (self.batch, -1)))  # nn.MultiheadAttention has both in one axis
        return self.attention[-1].flatten(0, 1)

    def softmax(self, input: Tensor, dim: int, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
        """PyTorch's function of that name."""
        return self._record(torch.ops.aten.softmax.int(input, dim, dtype))

    def scaled_dot_product_attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        """PyTorch's function of that name, written out so that the matrix exists."""
        if enable_gqa:
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
        scores = query @ key.mT * (scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
        return self.softmax(scores if attn_mask is None else scores + attn_mask, -1) @ value


@contextmanager
def _recording(batch: int) -> Iterator[list[Tensor]]:
    recorder = _Recorder(batch)
    # Patched, not intercepted by the mode, which does not see calls inside nn.MultiheadAttention.
    with (
        patch.object(nn.functional, "scaled_dot_product_attention", recorder.scaled_dot_product_attention),
        patch.object(nn.functional, "softmax", recorder.softmax),
        recorder,
    ):
        yield recorder.attention


@torch.enable_grad()
def eager_outputs(
    model: nn.Module, pixels: Tensor, target: Tensor, layout: Layout, names: Collection[str]
) -> dict[str, Tensor]:
    """What autograd on the model itself can tell of an artifact's outputs.

    Args:
        model: The unmodified model.
        pixels: [batch, 3, H, W].
        target: int64 [batch, targets], class indices only.
        layout: For the reductions.
        names: Of outputs.

    Returns:
        Those in BY_AUTOGRAD among them, by name, in the shapes of the artifact.

    Raises:
        LookupError: The model computes attention by functions that are not recorded.
    """
    names = BY_AUTOGRAD.intersection(names)
    if not names:
        return {}
    pixels = pixels.detach().requires_grad_()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}  # whose gradients nobody asks for
    with _recording(len(pixels)) as recorded:
        logits = functional_call(model, weights, pixels)
    attention = _used_by(logits, recorded)
    found = LayerOutputs(layout, names & OF_FORWARD, lambda name: 1)
    for matrix in reversed(attention):
        found.add({"attention": matrix.detach()})
    outputs = {"logits": logits.detach()} | found.outputs()
    if names - OF_FORWARD:
        scores = logits.gather(1, target).sum(0).unbind()
        columns = [
            _of_class(score, attention, pixels, layout, names - OF_FORWARD, retain=score is not scores[-1])
            for score in scores
        ]
        outputs |= {name: torch.stack([column.pop(name) for column in columns], 1) for name in list(columns[0])}
    if names - outputs.keys():
        raise LookupError("its attention is computed by other functions than torch.softmax and those of nn.functional")
    return {name: tensor for name, tensor in outputs.items() if name in names}


def _of_class(
    score: Tensor, attention: Sequence[Tensor], pixels: Tensor, layout: Layout, names: Collection[str], retain: bool
) -> dict[str, Tensor]:
    """What the gradients of a score give; those of a layer's attention are there only until the next layer's come."""
    found = LayerOutputs(layout, names, lambda name: 1)

    def add(matrix: Tensor, gradient: Tensor) -> None:
        found.add({"attention": matrix.detach(), "attention_gradient": gradient})

    # Of what is ready, autograd goes on with what was computed last: so it comes to the last layer first
    hooks = [matrix.register_hook(partial(add, matrix)) for matrix in attention]
    try:
        (of_pixels,) = torch.autograd.grad(score, [pixels], retain_graph=retain)
    finally:
        for hook in hooks:
            hook.remove()
    assert found.count == len(attention), "a layer has no gradient"
    return found.outputs() | ({"pixel_gradient": of_pixels} if "pixel_gradient" in names else {})


def _used_by(logits: Tensor, recorded: Sequence[Tensor]) -> list[Tensor]:
    """Those that the logits depend on: a pool may be there for nothing."""
    found, pending = set[Any](), [logits.grad_fn]
    while pending:
        one = pending.pop()
        if one is not None and one not in found:
            found.add(one)
            pending.extend(function for function, _ in one.next_functions)
    return [tensor for tensor in recorded if tensor.grad_fn in found]
