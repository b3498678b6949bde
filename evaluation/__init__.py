"""Which map to believe: explanation methods measured on images with known classes, by onnxruntime and NumPy alone."""
