"""What explanation methods need of attention, gradient and relevance: the heads of a layer reduced to one matrix.

The tensors of one layer are A [batch, heads, N, N], and with the target axis first G = d logit / d A, R = the
relevance of A, D = the gradient of the layer's own score, [targets, batch, heads, N, N]. For 1370 tokens each of these
takes 90 MB a layer and could hardly be carried out of the graph; reduced, they are a twelfth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .layout import Layout

HEADS = -3


@dataclass(frozen=True)
class Reduction:
    """One output: ``function(layout, *tensors)`` of a layer's raw tensors, which ``inputs`` names by output.

    last_only: of the last layer alone, without an axis of layers.
    """

    inputs: tuple[str, ...]
    function: Callable[..., Tensor]
    last_only: bool = False

    def __call__(self, layout: Layout, layers: Mapping[str, Sequence[Tensor]], axis: int) -> Tensor:
        """The output, given each layer's raw tensors by output name; ``axis`` is that of the layers in the result."""
        rows = list(zip(*(layers[name] for name in self.inputs), strict=True))
        if self.last_only:
            return self.function(layout, *rows[-1])
        return torch.stack([self.function(layout, *row) for row in rows], axis)


def _positive_mean(*factors: Tensor) -> Tensor:
    """E_h[(product of the factors)+]."""
    product = factors[0] if len(factors) == 1 else factors[0] * factors[1]
    return product.clamp(min=0).mean(HEADS)


def _weighted_by_gradient(attention: Tensor, gradient: Tensor, order: int) -> Tensor:
    """sum_h w_h A[h], w_h = |G[h]| / sum_h |G[h]| (GMAR 2025); all heads weigh the same where there is no gradient."""
    norms = gradient.abs().sum((-2, -1)) if order == 1 else (gradient * gradient).sum((-2, -1)).sqrt()
    total = norms.sum(-1, keepdim=True)
    weights = torch.where(total > 0, norms / torch.where(total > 0, total, 1), 1 / norms.shape[-1])
    return (weights[..., None, None] * attention).sum(HEADS)


def _gradcam(layout: Layout, attention: Tensor, gradient: Tensor) -> Tensor:
    """E_h[w_h a_h]: a_h, g_h the readout rows of A and G, w_h the mean of g_h over the patches (GradCAM)."""
    a, g = (tensor[..., list(layout.readout), :].mean(-2) for tensor in (attention, gradient))
    weights = g[..., layout.prefix_tokens :].mean(-1, keepdim=True)
    return (weights * a).mean(-2)


REDUCTIONS: dict[str, Reduction] = {
    "attention_mean": Reduction(("attention",), lambda _, a: a.mean(HEADS)),
    "attention_max": Reduction(("attention",), lambda _, a: a.amax(HEADS)),
    "attention_min": Reduction(("attention",), lambda _, a: a.amin(HEADS)),
    "gradient_attention_mean": Reduction(("attention", "attention_gradient"), lambda _, a, g: (g * a).mean(HEADS)),
    "gradient_attention_max": Reduction(("attention", "attention_gradient"), lambda _, a, g: (g * a).amax(HEADS)),
    "gradient_attention_min": Reduction(("attention", "attention_gradient"), lambda _, a, g: (g * a).amin(HEADS)),
    "gradient_attention_positive": Reduction(("attention", "attention_gradient"), lambda _, a, g: _positive_mean(g, a)),
    "attention_by_gradient_l1": Reduction(
        ("attention", "attention_gradient"), lambda _, a, g: _weighted_by_gradient(a, g, 1)
    ),
    "attention_by_gradient_l2": Reduction(
        ("attention", "attention_gradient"), lambda _, a, g: _weighted_by_gradient(a, g, 2)
    ),
    "attention_gradcam": Reduction(("attention", "attention_gradient"), _gradcam, last_only=True),
    "relevance_positive": Reduction(("relevance",), lambda _, r: _positive_mean(r)),
    "gradient_relevance_positive": Reduction(("attention_gradient", "relevance"), lambda _, g, r: _positive_mean(g, r)),
    "layer_gradient_positive": Reduction(("layer_gradient",), lambda _, d: _positive_mean(d).mean(-2)),
}
"""Output name to what it is made of: [batch, (targets,) (layers,) …], matrices [N, N] or rows [N]."""
