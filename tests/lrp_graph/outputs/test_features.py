"""The features of tokens against forward hooks on the models, in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.models import create_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

from onnxplain.lrp_graph import fuse
from tests.helpers.graph_checks import BATCH, TARGET, Hand, fused, images, sdpa
from tests.reference import variants
from tests.reference.features import features


def check(model: nn.Module, x: Tensor, expected: Tensor) -> None:
    found = fuse(model, x[:1], passes=["features"]).compute(x, TARGET[: len(x)], ["features"])["features"]
    assert_close(found, expected)


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert expected.std(1).min() > 0  # tokens differ


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_variant(name: str) -> None:
    model, graph = fused(name)
    x = variants.pixels(model, BATCH)
    assert_close(graph.compute(x, TARGET, ["features"])["features"], features(model, x))


@pytest.mark.parametrize(
    "options",
    [
        {"class_token": False},
        {"class_token": True, "pool_include_prefix": True},
        {"class_token": True, "reg_tokens": 2},
    ],
    ids=str,
)
def test_attention_pool(options: dict[str, int | bool]) -> None:
    """Keys and values of the pool are made of the features at once, [batch, tokens, 2 width]."""
    model = VisionTransformer(32, 8, 3, 5, "map", 16, 2, 2, **options).double().eval()
    variants.randomise(model)
    check(model, images(), features(model, images()))


@pytest.mark.parametrize(
    "name",
    ["eva02_tiny_patch14_224", "beit_base_patch16_224", "vit_pe_core_tiny_patch16_384", "vit_small_patch16_dinov3"],
)
def test_other_families_of_timm(name: str) -> None:
    model = create_model(name, num_classes=5, img_size=56 if "14" in name else 64, depth=2).double().eval()
    variants.randomise(model)
    x = variants.pixels(model, 2)
    with torch.no_grad():
        check(model, x, model.forward_features(x))


def test_torchvision() -> None:
    model = TorchvisionTransformer(32, 8, 2, 2, 16, 32, num_classes=variants.CLASSES).double().eval()
    variants.randomise(model)
    found: list[Tensor] = []
    model.encoder.ln.register_forward_hook(lambda module, args, result: found.append(result.detach()))
    model(images())
    check(model, images(), found[0])


class Wrapped(nn.Module):
    """What of the output of a model of transformers is named, without a head."""

    def __init__(self, model: nn.Module, read: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.read = model.double().eval(), read
        variants.randomise(self)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.read(self.model(pixels))


SIZES = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
SIZES |= {"num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    "model",
    [
        Wrapped(ViTModel(ViTConfig(**SIZES), add_pooling_layer=False), lambda found: found.last_hidden_state[:, 0]),
        # Its norm is of the class token alone
        Wrapped(CLIPVisionModelWithProjection(CLIPVisionConfig(**SIZES)), lambda found: found.image_embeds),
    ],
    ids=["vit", "clip"],
)
def test_transformers(model: Wrapped) -> None:
    with torch.no_grad():
        expected = model.model(images()).last_hidden_state
    check(model, images(), expected)


class Gated(Hand):
    """A gate on what attention gives, which reads what the block reads as the residual addition does."""

    def __init__(self) -> None:
        super().__init__(sdpa)
        self.gate = nn.Linear(16, 16).double()

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2) * self.gate(x).sigmoid())
        return self.pool(x)


def test_a_gate_is_not_the_residual_addition() -> None:
    model, found = Gated(), list[Tensor]()
    model.pool = lambda x: found.append(x) or model.head(x.mean(1))
    model(images())
    check(model, images(), found[0].detach())


HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "square of each token": lambda x: F.linear(x, torch.ones(16, 16, dtype=x.dtype)).relu().mean(1),
    "as columns": lambda x: x.transpose(1, 2).tanh().mean(2),
    "an activation": lambda x: x.tanh().mean(1),
    "patches": lambda x: x[:, 1:].mean(1),
}


@pytest.mark.parametrize("pool", HEADS.values(), ids=HEADS)
def test_what_the_head_makes_of_tokens_is_not_their_features(pool: Callable[[Tensor], Tensor]) -> None:
    """Sixteen tokens of sixteen numbers: only the op tells that they were turned."""
    model, found = Hand(sdpa), list[Tensor]()
    model.pool = lambda x: found.append(x) or pool(x)
    model(images())
    check(model, images(), found[0].detach())
