"""Model -> one fused graph of logits, attention, attention gradients and relevance (needs torch)."""

from .fuse import ALL, Derived, FusedGraph, fuse
from .layout import Layout
from .passes import FORWARD_ONLY
from .reductions import LayerOutputs, pool_outputs, raw_inputs
from .reverse import MissingRuleError
from .trace.rewrite import GraphError

__all__ = [
    "ALL",
    "FORWARD_ONLY",
    "Derived",
    "FusedGraph",
    "GraphError",
    "LayerOutputs",
    "Layout",
    "MissingRuleError",
    "fuse",
    "pool_outputs",
    "raw_inputs",
]
