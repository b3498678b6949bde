"""Model -> one fused graph of logits, attention, attention gradients and relevance (needs torch)."""

from .fuse import ALL, PASSES, FusedGraph, fuse
from .layout import Layout
from .reductions import REDUCTIONS, layer_outputs, pool_outputs
from .reverse import MissingRuleError
from .trace.rewrite import GraphError

__all__ = [
    "ALL",
    "PASSES",
    "REDUCTIONS",
    "FusedGraph",
    "GraphError",
    "Layout",
    "MissingRuleError",
    "fuse",
    "layer_outputs",
    "pool_outputs",
]
