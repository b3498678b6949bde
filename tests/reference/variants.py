"""Tiny random timm Vision Transformers, one for each architectural feature. Nothing is downloaded."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import LayerNorm, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch import Tensor, nn

CLASSES = 5
_SMALL: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": CLASSES,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
}
_DEEPER: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": CLASSES,
    "embed_dim": 48,
    "depth": 3,
    "num_heads": 3,
}

_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": _SMALL,
    "deeper": _DEEPER,
    "distilled": _SMALL,
    "registers": _SMALL | {"reg_tokens": 4},
    "registers_no_class": _SMALL | {"reg_tokens": 4, "class_token": False, "global_pool": "avg"},
    "registers_no_embed": _SMALL | {"reg_tokens": 4, "no_embed_class": True},
    "mean_pool": _SMALL | {"global_pool": "avg"},
    "mean_pool_no_class": _DEEPER | {"global_pool": "avg", "class_token": False},
    "mean_pool_norm_first": _SMALL | {"global_pool": "avg", "fc_norm": False},
    "token_fc_norm": _SMALL | {"fc_norm": True},
    "clip": _SMALL | {"pre_norm": True, "norm_layer": partial(LayerNorm, eps=1e-5), "act_layer": "quick_gelu"},
    "layer_scale": _SMALL | {"init_values": 1e-5},
    "qk_norm": _SMALL | {"qk_norm": True},
    "scale_norm": _SMALL | {"scale_attn_norm": True, "scale_mlp_norm": True},
    "swiglu": _SMALL | {"mlp_layer": SwiGLU, "act_layer": nn.SiLU},
    # As vit_giant_patch14_reg4_dinov2.
    "swiglu_packed": _DEEPER
    | {
        "mlp_layer": SwiGLUPacked,
        "act_layer": nn.SiLU,
        "mlp_ratio": 2.66667 * 2,
        "init_values": 1e-5,
        "reg_tokens": 4,
        "no_embed_class": True,
    },
    "rms_norm": _SMALL | {"norm_layer": RmsNorm},
    "no_bias": _SMALL | {"qkv_bias": False, "proj_bias": False},
    "no_embed_class": _SMALL | {"no_embed_class": True},
    "non_square": _SMALL | {"img_size": (48, 32)},
    "gelu_tanh": _SMALL | {"act_layer": "gelu_tanh"},
    "res_post": _SMALL | {"block_fn": ResPostBlock, "init_values": 1e-5},
    # vit_22b style, then as vit_base_patch16_xp_224, then as vit_small_patch16_18x2_224.
    "parallel_scaling": _SMALL | {"block_fn": ParallelScalingBlock},
    "parallel_scaling_xp": _SMALL
    | {
        "block_fn": ParallelScalingBlock,
        "pre_norm": True,
        "no_embed_class": True,
        "norm_layer": RmsNorm,
        "qkv_bias": False,
        "qk_norm": True,
    },
    "parallel_scaling_fused": _SMALL | {"block_fn": partial(ParallelScalingBlock, fuse_out_proj=True)},
    "parallel_things": _SMALL | {"block_fn": ParallelThingsBlock, "init_values": 1e-5},
}


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Give every parameter a random value that is neither zero nor one, with activations of order one.

    Matrices get std 1.2 / sqrt(fan in), tokens and position embeddings a unit normal, biases std 0.3, norm weights
    a uniform value in [0.5, 1.5], LayerScale the same with a random sign.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = parameter.shape
            if name.endswith("bias"):
                value = 0.3 * normal(shape)
            elif name.endswith("gamma"):
                value = (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)) * normal(shape).sign()
            elif parameter.ndim == 1:
                value = 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)
            elif name.endswith(("token", "pos_embed")):
                value = normal(shape)
            else:
                value = normal(shape) * 1.2 / shape[1:].numel() ** 0.5
            parameter.copy_(value)


def _build(name: str) -> VisionTransformer:
    kind = VisionTransformerDistilled if name == "distilled" else VisionTransformer
    model = kind(**_OPTIONS[name])
    randomise(model)
    return model.eval()


VARIANTS: dict[str, Callable[[], VisionTransformer]] = {name: partial(_build, name) for name in _OPTIONS}


def build(name: str, dtype: torch.dtype = torch.float64) -> VisionTransformer:
    """The variant in `dtype`, float64 by default; the values are those of the float32 model."""
    return VARIANTS[name]().to(dtype)


def pixels(model: VisionTransformer, batch: int = 2, seed: int = 0) -> Tensor:
    """Random normal images [batch, 3, H, W] of the model's input size, in its dtype and on its device."""
    height, width = model.patch_embed.img_size
    values = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weight = model.patch_embed.proj.weight
    return values.to(dtype=weight.dtype, device=weight.device)


def targets(batch: int = 2, classes: int = CLASSES) -> Tensor:
    """One class per image, int64 [batch]: 0, 1, 2, … modulo the number of classes."""
    return torch.arange(batch) % classes
