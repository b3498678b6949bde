"""How many numbers a token has on its way through the model."""

from __future__ import annotations

from collections import Counter

from .capture import Trace
from .rewrite import shape_of


def token_widths(trace: Trace) -> tuple[int, int]:
    """The most frequent width of values [batch, tokens, width] or [tokens, batch, width], and the greatest of them.

    The first is that between the blocks.
    """
    tokens = shape_of(trace.layer_attention[0])[-1]
    shapes = [shape_of(node) for node in trace.nodes]
    widths = Counter(shape[2] for shape in shapes if len(shape) == 3 and tokens in shape[:2])
    (usual, _), *_ = widths.most_common(1)
    return int(usual), int(max(widths))
