"""Outputs of the fused graph that are more than one backward pass."""
