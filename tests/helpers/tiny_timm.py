"""The smallest Vision Transformer that timm names."""

from functools import partial

import torch

from onnxplain.export import load_backbone

TINY = "test_vit"  # 0.4 million parameters, 160 pixels in patches of 16, 1000 classes
load_tiny = partial(load_backbone, f"timm/{TINY}")


def random_pixels(size=(160, 160)):
    """Two images for the model, the same each time."""
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
