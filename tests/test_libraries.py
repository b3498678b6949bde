"""Classifiers of other libraries, as they come: the fused graph against autograd on the unmodified model.

In float32 where a library's own attention computes its softmax in that.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from graph_checks import images, worst
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as ClipTower
from reference import variants
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

from onnxplain.export.verify.autograd_reference import TOLD, eager_outputs
from onnxplain.lrp_graph import fuse

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


def _cases() -> Iterator[Any]:
    for implementation in ("sdpa", "eager"):
        for name, build in TRANSFORMERS.items():
            single = implementation == "eager"
            yield pytest.param(build, {"attn_implementation": implementation}, single, id=f"{name}, {implementation}")
    for name, plain in OTHERS.items():
        yield pytest.param(plain, {}, False, id=name)


@pytest.mark.parametrize(("build", "options", "single"), list(_cases()))
def test_library(build: Callable[..., nn.Module], options: dict[str, Any], single: bool) -> None:
    torch.manual_seed(0)
    model = build(**options).eval()
    variants.randomise(model)
    model = model if single else model.double()
    pixels = images().float() if single else images()
    graph = fuse(model, pixels[:1])
    assert graph.left_out == {} and graph.layout.patch_grid == (4, 4)
    target = torch.tensor([[0, 3], [1, 2], [4, 0]])
    found = graph(pixels, target)
    assert all(value.isfinite().all() for value in found.values())
    names = ("logits", "attention", "attention_gradient", "pixel_gradient", "pool_attention_gradient")
    expected = eager_outputs(model, pixels, target, graph.layout, TOLD.intersection(graph.names, names))
    for name, value in expected.items():
        assert worst(found[name], value, 0) <= (1e-4 if single else 1e-9), name


def test_a_model_that_draws_random_numbers_has_no_answer() -> None:
    model = Wrapped(hf.ViTMAEModel(hf.ViTMAEConfig(**SMALL)), lambda output: output.last_hidden_state[:, 0], True)
    with pytest.raises(ValueError, match="draws random numbers"):
        fuse(model, images()[:1].float())
