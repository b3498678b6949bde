"""What explanation methods need of attention, gradient and relevance: the heads of a layer reduced to one matrix.

The tensors of one layer are A [batch, heads, N, N], and with the target axis first G = d logit / d A, R = the
relevance of A, D = the gradient of the layer's own score, [targets, batch, heads, N, N]. For 1370 tokens and twelve
heads each of these takes 90 MB a layer, too much to return from the graph; reduced, a twelfth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import torch
from torch import Tensor

from onnxplain.contract.outputs import OUTPUTS, PASSES, POOL, POOLED, REDUCTIONS, Output

from .layout import Layout

HEADS = -3
"""The axis of heads in the tensors of a layer."""


def _weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
    """sum_h w_h X[h] of weights [..., heads]; as a product, as onnxruntime takes eight times as long to sum."""
    sums = weights.unsqueeze(-2) @ x.flatten(-2)
    return sums.reshape(*sums.shape[:-2], *x.shape[-2:])


def _mean(x: Tensor) -> Tensor:
    """E_h[X]."""
    heads = x.shape[HEADS]
    return _weighted_sum(x.new_full((heads,), 1 / heads), x)


def _positive_mean(*factors: Tensor) -> Tensor:
    """E_h[(product of the factors)+]."""
    return _mean((factors[0] if len(factors) == 1 else factors[0] * factors[1]).relu())


def _weighted_by_gradient(attention: Tensor, gradient: Tensor, order: int) -> Tensor:
    """sum_h w_h A[h], w_h = |G[h]| / sum_h |G[h]| (GMAR 2025), in the l1 or l2 norm, by ``order``.

    All heads weigh the same where there is no gradient.
    """
    powers = gradient.abs() if order == 1 else gradient * gradient
    total = powers.sum(-1).sum(-1)  # row by row: in one go, onnxruntime is off by 6e-5 for 1370 tokens
    norms = total if order == 1 else total.sqrt()
    total = norms.sum(-1, keepdim=True)
    none = total == 0  # false for NaN, which is kept
    weights = torch.where(none, 1 / norms.shape[-1], norms / torch.where(none, 1, total))
    return _weighted_sum(weights, attention)


def _gradcam(layout: Layout, attention: Tensor, gradient: Tensor) -> Tensor:
    """E_h[w_h a_h]: a_h, g_h the readout rows of A and G, w_h the mean of g_h over the patches (GradCAM)."""
    rows = torch.tensor([0] if layout.pool else layout.readout)
    a, g = (tensor[..., rows, :].mean(-2) for tensor in (attention, gradient))
    weights = g[..., layout.prefix_tokens :].mean(-1, keepdim=True)
    return (weights * a).mean(-2)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "attention_mean": lambda _, a: _mean(a),
    "attention_max": lambda _, a: a.amax(HEADS),
    "attention_min": lambda _, a: a.amin(HEADS),
    "gradient_attention_mean": lambda _, a, g: _mean(g * a),
    "gradient_attention_max": lambda _, a, g: (g * a).amax(HEADS),
    "gradient_attention_min": lambda _, a, g: (g * a).amin(HEADS),
    "gradient_attention_positive": lambda _, a, g: _positive_mean(g, a),
    "attention_by_gradient_l1": lambda _, a, g: _weighted_by_gradient(a, g, 1),
    "attention_by_gradient_l2": lambda _, a, g: _weighted_by_gradient(a, g, 2),
    "attention_gradcam": _gradcam,
    "relevance_positive": lambda _, r: _positive_mean(r),
    "gradient_relevance_positive": lambda _, g, r: _positive_mean(g, r),
    "layer_gradient_positive": lambda _, d: _positive_mean(d).mean(-2),
}
"""By name, what computes each of the contract's REDUCTIONS for one layer.

``function(layout, *raw)``, with the layer's raw tensors in the order of the reduction's passes.
"""

assert FUNCTIONS.keys() == REDUCTIONS.keys()


def raw_inputs(item: Output) -> tuple[str, ...]:
    """The raw outputs that an output is made of, by name."""
    return tuple(PASSES[name].output for name in item.passes)


def pool_outputs(names: Collection[str]) -> list[str]:
    """The outputs of an attention pool that go with the outputs ``names`` of layers.

    Raw ones are [batch, (targets,) heads, 1, N], reductions [batch, (targets,) N].
    """
    return [name for name in POOLED if name.removeprefix(POOL) in names]


class LayerOutputs:
    """Outputs that are made of the tensors of layers, given layer by layer: none has to be kept for the next.

    Attributes:
        count: How many layers were given, the attention pool included.
    """

    def __init__(self, layout: Layout, names: Collection[str], axis: Callable[[str], int]) -> None:
        """Begin without a layer.

        Args:
            layout: Which token is what.
            names: The outputs wanted.
            axis: An output's name -> which axis of the result is that of the layers.
        """
        self._layout, self._names, self._axis = layout, names, axis
        self._found: dict[str, list[Tensor]] = {}
        self.count = 0

    def add(self, raw: Mapping[str, Tensor]) -> None:
        """Add a layer, the last one first; an attention pool, if there is one, is the very first.

        Args:
            raw: Its tensors [..., batch, heads, N, N] by the name of the output that has those of all layers; the
                pool's are [..., batch, heads, 1, tokens seen].
        """
        last = self.count == 0
        self.count += 1
        pool = POOL if last and self._layout.pool else ""
        if self._layout.pool:
            raw = {name: _over_all_tokens(self._layout, tensor) for name, tensor in raw.items()}
        results = {pool + name: tensor for name, tensor in raw.items() if pool + name in self._names}
        for name, item in REDUCTIONS.items():
            of_last = "layers" not in item.axes
            key = name if of_last else pool + name
            if key in self._names and (last or not of_last) and raw.keys() >= set(raw_inputs(item)):
                result = FUNCTIONS[name](self._layout, *(raw[one] for one in raw_inputs(item)))
                results[key] = result[..., 0, :] if pool and not of_last else result
        for name, result in results.items():
            self._found.setdefault(name, []).append(result)

    def outputs(self) -> dict[str, Tensor]:
        """By name, those outputs that the tensors of the layers were enough for, with one axis more, of the layers."""
        return {
            name: torch.stack(tensors[::-1], self._axis(name)) if "layers" in OUTPUTS[name].axes else tensors[0]
            for name, tensors in self._found.items()
        }


def layer_outputs(
    layout: Layout, count: int, layers: Mapping[str, Iterator[Tensor]], names: Collection[str],
    axis: Callable[[str], int],
) -> dict[str, Tensor]:  # fmt: skip
    """Stack and reduce the raw tensors of layers.

    Args:
        layout: Which token is what.
        count: How many layers there are.
        layers: By output name, the raw tensors of each layer, the last one first, and before it those of the attention
            pool, if there is one.
        names: The outputs wanted.
        axis: An output's name -> which axis of the result is that of the layers.

    Returns:
        By name, those of the outputs ``names`` that ``layers`` are enough for.
    """
    found = LayerOutputs(layout, names, axis)
    if layout.pool:
        found.add({name: next(tensors) for name, tensors in layers.items() if POOL + name in POOLED})
    for _ in range(count if layers else 0):  # zip would hold a layer's tensors while it takes the next one's
        found.add({name: next(tensors) for name, tensors in layers.items()})
    return found.outputs()


def _over_all_tokens(layout: Layout, tensor: Tensor) -> Tensor:
    """``tensor`` [..., tokens seen] with zeros for prefix tokens that a pool does not see."""
    unseen = layout.tokens - tensor.shape[-1]
    return torch.nn.functional.pad(tensor, [unseen, 0]) if unseen else tensor
