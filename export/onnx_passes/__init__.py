"""Rewrites of the ONNX model: products in the fastest form, forms that other tools take, outputs behind flags."""
