"""The embedded demo: scenes with known answers, and a small Vision Transformer trained on them."""

from pathlib import Path

ARTIFACT = Path(__file__).parent / "demo.onnx"
"""The demo model with all passes, as export writes it; its weights are kept nowhere else."""
