"""LeGrad: the gradient of each layer's own score with respect to its attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from ..reverse import Propagator, reverse
from ..trace.capture import Trace
from ..trace.rewrite import interpret, with_others
from .streams import tail_after


def layer_gradients(
    trace: Trace, stream: Sequence[fx.Node], values: Mapping[fx.Node, Any], seed: Tensor, propagator: Propagator
) -> Iterator[Tensor]:
    """D_l = d s_l / d A_l for every layer l (Bousselham et al., "LeGrad", 2024, equations 5 and 6).

    s_l is the target's logit where every token that leaves the last block is the mean token after block l. With an
    attention pool, s_l is the target's logit where the pool reads the tokens after block l as they are, and A_l is the
    pool's attention to them.

    Args:
        trace: The model's graph.
        stream: The token stream after each block, see ``residual_stream``.
        values: The result of every node in the forward pass.
        seed: [targets, batch, classes], 1 at the target.
        propagator: The rules of gradients.

    Yields:
        [targets, batch, heads, tokens, tokens] for each layer, the last first; with a pool
        [targets, batch, pool's heads, 1, tokens].
    """
    last = stream[-1]
    tail = tail_after(trace, last)
    for attention, node in reversed(list(zip(trace.layer_attention, stream, strict=True))):
        tokens = values[node]
        if trace.pool_attention is not None:
            replaced = interpret(tail, with_others(values, {last: tokens}))
            yield from reverse(trace, replaced, trace.full_logits, seed, propagator, [trace.pool_attention])
            continue
        mean = tokens.mean(1, keepdim=True).expand_as(tokens)
        replaced = interpret(tail, with_others(values, {last: mean}))
        (of_mean,) = reverse(trace, replaced, trace.full_logits, seed, propagator, [last])
        of_tokens = of_mean.mean(2, keepdim=True).expand_as(of_mean) * 1  # materialised
        yield from reverse(trace, values, node, of_tokens, propagator, [attention])
