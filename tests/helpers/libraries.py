"""Small classifiers as other libraries build them."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as ClipTower
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

SMALL: dict[str, Any] = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
    **{"image_size": 32, "patch_size": 8, "num_labels": 5},
}
TOWER: dict[str, Any] = {
    **{"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 2, "mlp_ratio": 2, "output_dim": 6},
}


class Wrapped(nn.Module):
    """What a user writes around a model that returns more than logits."""

    def __init__(self, model: nn.Module, read: Callable[[Any], Tensor], head: bool = False) -> None:
        super().__init__()
        self.model, self.read = model, read
        self.head = nn.Linear(32, 5) if head else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.read(self.model(pixel_values=pixels)))


class Masked(Wrapped):
    """ViTMAE shuffles its patches by chance unless it is told how."""

    def forward(self, pixels: Tensor) -> Tensor:
        noise = torch.linspace(0, 1, 16).expand(pixels.shape[0], -1)
        return self.head(self.read(self.model(pixel_values=pixels, noise=noise)))


def _logits(kind: type, config: type, **more: Any) -> Callable[..., nn.Module]:
    return lambda **options: Wrapped(kind(config(**SMALL, **options, **more)), lambda output: output.logits)


def _pooled(kind: type, config: type) -> Callable[..., nn.Module]:
    return lambda **options: Wrapped(kind(config(**SMALL, **options)), lambda output: output.pooler_output, True)


def _both(kind: type, config: type) -> Callable[..., nn.Module]:
    def build(**options: Any) -> nn.Module:
        return Wrapped(kind(config(vision_config=SMALL, num_labels=5, **options)), lambda output: output.logits)

    return build


def _mae(**options: Any) -> nn.Module:
    config = hf.ViTMAEConfig(**SMALL, mask_ratio=0.0, **options)
    return Masked(hf.ViTMAEModel(config), lambda output: output.last_hidden_state[:, 0], True)


TRANSFORMERS: dict[str, Callable[..., nn.Module]] = {
    "ViT": _logits(hf.ViTForImageClassification, hf.ViTConfig),
    "DeiT": _logits(hf.DeiTForImageClassification, hf.DeiTConfig),
    "DeiT, two heads": _logits(hf.DeiTForImageClassificationWithTeacher, hf.DeiTConfig),
    "Dinov2": _logits(hf.Dinov2ForImageClassification, hf.Dinov2Config),
    "Dinov2, registers": _logits(hf.Dinov2WithRegistersForImageClassification, hf.Dinov2WithRegistersConfig),
    "DINOv3": _pooled(hf.DINOv3ViTModel, hf.DINOv3ViTConfig),
    "CLIP": _pooled(hf.CLIPVisionModel, hf.CLIPVisionConfig),
    "CLIP, classifier": _both(hf.CLIPForImageClassification, hf.CLIPConfig),
    "SigLIP": _pooled(hf.SiglipVisionModel, hf.SiglipVisionConfig),
    "SigLIP, classifier": _both(hf.SiglipForImageClassification, hf.SiglipConfig),
    "ViTMAE": _mae,
    "BEiT": _logits(hf.BeitForImageClassification, hf.BeitConfig),
    "BEiT, positions": _logits(hf.BeitForImageClassification, hf.BeitConfig, use_relative_position_bias=True),
    "I-JEPA": _logits(hf.IJepaForImageClassification, hf.IJepaConfig),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "torchvision": lambda: TorchvisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5),
    "open_clip": lambda: ClipTower(**TOWER),
    "open_clip, mean": lambda: ClipTower(**TOWER, pool_type="avg"),
    "open_clip, quick": lambda: ClipTower(**TOWER, act_layer=QuickGELU, ls_init_value=0.1),
}
