"""Model -> one fused graph of logits, attention, attention gradients and relevance (needs torch)."""

from .fuse import FusedGraph, Layout, fuse
from .reverse import MissingRuleError
from .trace import GraphError

__all__ = ["FusedGraph", "GraphError", "Layout", "MissingRuleError", "fuse"]
