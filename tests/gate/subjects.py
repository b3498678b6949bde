"""What is exported: forty architectures of all families, small, two blocks each, with weights of five kinds."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.sweep import KV_HEADS, SMALL
from onnxplain.demo.scenes import scene
from tests.helpers.libraries import OTHERS, TRANSFORMERS
from tests.helpers.timm_families import FAMILIES
from tests.reference import variants

HEAVY = {"vit_small_r26_s32_224", "vit_small_resnet26d_224", "vitamin_small_224", "aimv2_large_patch14_224"}
"""A minute each: their stems, or widths, cannot be made small. benchmarks/sweep.py has them."""
SIDE = {"patch14": 56, "patch16": 64}
LIBRARY = (32, 32)
VARIANTS = ("layer_scale", "mean_pool_no_class", "parallel_scaling_fused")
STEPS, BATCH = 150, 8

Built = tuple[nn.Module, tuple[int, int]]


def _timm(name: str) -> Built:
    """As benchmarks/sweep.py builds it, but with timm's own weights."""
    side = next((size for part, size in SIDE.items() if part in name), 64)
    sizes = {"img_size": side} | (KV_HEADS if name.endswith("_sapiens2") else {})
    options: dict[str, Any]
    for options in ({**SMALL, **sizes}, SMALL, {"depth": 2, **sizes}, {"depth": 2}):
        try:
            model = timm.create_model(name, num_classes=5, **options)
        except (TypeError, ValueError, AssertionError, RuntimeError):
            continue
        size = (side, side) if "img_size" in options else model.pretrained_cfg["input_size"][1:]
        return model, tuple(size)
    raise ValueError(name)


def _variant(name: str) -> Built:
    model = variants.build(name, torch.float32)
    return model, model.patch_embed.img_size


ARCHITECTURES: dict[str, Callable[[], Built]] = {
    **{name: partial(_timm, name) for names in FAMILIES.values() for name in names if name not in HEAVY},
    **{name: lambda build=build: (build(), LIBRARY) for name, build in {**TRANSFORMERS, **OTHERS}.items()},
    **{name: partial(_variant, name) for name in VARIANTS},
}


def _as_published(model: nn.Module, size: tuple[int, int]) -> None:
    """The library's own; a head of zeros, which is how some begin, explains nothing."""
    for parameter in list(model.parameters())[-2:]:
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def _normal(model: nn.Module, size: tuple[int, int]) -> None:
    """As transformers begins: biases of zero, matrices and positions of 0.02, norms of one."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)


def _fan_in(model: nn.Module, size: tuple[int, int]) -> None:
    variants.randomise(model, int(torch.randint(1000, ())))


def _large(model: nn.Module, size: tuple[int, int]) -> None:
    _fan_in(model, size)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(3)


@cache
def _scenes(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pictures of the demo's kind, and the first digit of each, as one of five classes."""
    drawn = [scene(seed) for seed in range(64)]
    pictures = [np.asarray(Image.fromarray(one.image).resize(size[::-1])) for one in drawn]
    pixels = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2) / 127.5 - 1).float()
    return pixels, torch.tensor([one.labels[0] % 5 for one in drawn])


@torch.enable_grad()
def _trained(model: nn.Module, size: tuple[int, int]) -> None:
    """From the library's own, for some steps on a few pictures."""
    _as_published(model, size)
    pixels, labels = _scenes(size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(pixels), (BATCH,))
        loss = nn.functional.cross_entropy(model(pixels[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


WEIGHTS: dict[str, Callable[[nn.Module, tuple[int, int]], None]] = {
    "library": _as_published,
    "normal 0.02": _normal,
    "fan in": _fan_in,
    "large": _large,
    "trained": _trained,
}


def build(architecture: str, weights: str, seed: int) -> Built:
    """The model, and the height and width of its pictures."""
    torch.manual_seed(seed)
    model, size = ARCHITECTURES[architecture]()
    with torch.no_grad():
        WEIGHTS[weights](model.eval(), size)
    return model.requires_grad_(False), size
