"""Rewrites of the ONNX model: outputs behind flags, and products in the form that runs fastest."""
