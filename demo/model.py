"""The demo model: a small, real Vision Transformer, whose trained weights are in the package's artifact."""

from __future__ import annotations

from timm.models.vision_transformer import VisionTransformer

from .scenes import SIZE


def architecture(img_size: int = SIZE) -> VisionTransformer:
    """The untrained network: 1.0 million parameters, 8-pixel patches, one logit per digit class (multi-label)."""
    return VisionTransformer(
        img_size=img_size, patch_size=8, embed_dim=128, depth=6, num_heads=4, mlp_ratio=3, num_classes=10
    )
