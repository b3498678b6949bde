"""Rewrites of the ONNX model: products in the form that runs fastest, forms that other tools take, outputs behind flags."""
