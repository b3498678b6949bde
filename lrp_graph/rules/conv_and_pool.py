"""Vector-Jacobian products of convolutions, pools and the norms that come with them; relevance rules use them too.

``g`` is the cotangent of the output ``y``, [targets, *y.shape].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .shape_ops import slice_vjp


def transposed_convolution(
    g: Tensor, x: Tensor, w: Tensor, stride: Sequence[int] = (1, 1), padding: Sequence[int] | str = (0, 0),
    dilation: Sequence[int] = (1, 1), groups: int = 1,
) -> Tensor:  # fmt: skip
    """The cotangent of ``x`` in a convolution with ``w``: the transposed convolution of g."""
    before = [0, 0]
    if padding == "same":  # of an odd number, the extra pixel comes after
        before = [d * (k - 1) // 2 for d, k in zip(dilation, w.shape[-2:], strict=True)]
    elif not isinstance(padding, str):
        before = list(padding)
    reached = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(g.shape[-2:], stride, dilation, w.shape[-2:], strict=True)
    ]
    back = nn.functional.conv_transpose2d(
        g.flatten(0, 1), w, None, list(stride), groups=groups, dilation=list(dilation)
    )
    # Cut off the padding, and add zeros for the margin that no window covered
    rest = [size - r + b for size, r, b in zip(x.shape[-2:], reached, before, strict=True)]
    back = nn.functional.pad(back, [-before[1], rest[1], -before[0], rest[0]])
    return back.reshape(g.shape[0], *x.shape)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Two numbers, which PyTorch writes as one where they are equal."""
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers[0], numbers[-1]


def max_pool_vjp(
    g: Tensor, y: Tensor, x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """Each output's cotangent goes to the entry that is its maximum, the first of several.

    Computed for all windows at once, offset by offset within the window.
    """
    steps, pads, gaps = pair(stride or kernel), pair(padding), pair(dilation)
    spans = [  # of the inputs, padded, that the windows cover
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(y.shape[-2:], steps, gaps, pair(kernel), strict=True)
    ]
    after = [span - p - size for span, p, size in zip(spans, pads, x.shape[-2:], strict=True)]
    padded = nn.functional.pad(x, [pads[1], after[1], pads[0], after[0]], value=-math.inf)
    free = torch.ones_like(y, dtype=torch.bool)  # the windows whose maximum has not been found yet
    back = g.new_zeros(1)
    for i, j in ((i * gaps[0], j * gaps[1]) for i in range(pair(kernel)[0]) for j in range(pair(kernel)[1])):
        ends = [start + (n - 1) * s + 1 for start, n, s in zip((i, j), y.shape[-2:], steps, strict=True)]
        window = padded[..., i : ends[0] : steps[0], j : ends[1] : steps[1]]
        found = free & (window == y)
        free = free & ~found
        columns = slice_vjp(g * found, -1, j, steps[1], spans[1])
        back = back + slice_vjp(columns, -2, i, steps[0], spans[0])
    return nn.functional.pad(back, [-pads[1], -after[1], -pads[0], -after[0]])


def avg_pool_vjp(
    g: Tensor, x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Each output's cotangent over the number of entries it is the mean of, to each of these."""
    sides, steps, pads = pair(kernel), pair(stride or kernel), pair(padding)
    counts = []
    for n, k, s, p, size in zip(g.shape[-2:], sides, steps, pads, x.shape[-2:], strict=True):
        margin = p if count_include_pad else 0
        ends = [(max(o * s - p, -margin), min(o * s - p + k, size + margin)) for o in range(n)]
        counts.append(torch.tensor([end - start for start, end in ends]).to(g))
    divisor = divisor_override or counts[0][:, None] * counts[1]
    ones = x.new_ones(x.shape[1], 1, *sides)
    return transposed_convolution(g / divisor, x, ones, steps, pads, (1, 1), x.shape[1])


def group_norm_rule(layer_norm_rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The rule of group normalisation, which is layer normalisation over each group."""

    def rule(
        g: Tensor, y: Tensor, x: Tensor, groups: int, w: Tensor | None = None, b: Tensor | None = None,
        eps: float = 1e-5, *_: Any,
    ) -> Tensor:  # fmt: skip
        gw = g if w is None else g * w.reshape(-1, *[1] * (x.dim() - 2))
        parts = x.reshape(x.shape[0], groups, -1)
        g_parts = gw.reshape(g.shape[0], *parts.shape)
        return layer_norm_rule(g_parts, None, parts, parts.shape[-1:], None, None, eps).reshape(g.shape[0], *x.shape)

    return rule


def batch_norm_vjp(
    g: Tensor, y: Tensor, x: Tensor, w: Tensor | None, b: Tensor | None, mean: Tensor, variance: Tensor,
    training: bool, momentum: float, eps: float, *_: Any,
) -> Tensor:  # fmt: skip
    """In evaluation mode: a multiplication with constants."""
    scale = torch.rsqrt(variance + eps) if w is None else w * torch.rsqrt(variance + eps)
    return g * scale.reshape(-1, *[1] * (x.dim() - 2))
