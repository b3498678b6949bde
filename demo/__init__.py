"""The embedded demo: scenes with known answers, and a small Vision Transformer trained on them."""
