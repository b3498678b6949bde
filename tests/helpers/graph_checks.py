"""What the tests of whole graphs share: small models, comparisons layer by layer."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from onnxplain.contract.outputs import PASSES, REDUCTIONS
from onnxplain.lrp_graph import FusedGraph, fuse
from tests.reference import eager, variants

BATCH = 3
TARGET = torch.tensor([[0, -1, 3, -2], [-5, 2, -1, 2], [4, 1, -3, 0]])
"""Four per image, indices and ranks mixed, one of them twice."""


@cache
def fused(name: str, dtype: torch.dtype = torch.float64) -> tuple[VisionTransformer, FusedGraph]:
    model = variants.build(name, dtype)
    return model, fuse(model, variants.pixels(model, 1, seed=9))


PER_IMAGE = ("logits", *(item.output for item in (*PASSES.values(), *REDUCTIONS.values()) if not item.per_target))
"""The outputs without an axis of targets."""


def slice_axis(output: str) -> int:
    """The axis whose slices `worst` compares each by itself: layers or, where there are none, targets or images."""
    if output == "logits":
        return 0
    return 1 if output in PER_IMAGE or output.startswith("pixel") or output == "reciprocam" else 2


def worst(actual: Tensor, expected: Tensor, axis: int) -> float:
    """The greatest difference in a slice along ``axis`` over the greatest entry of that slice."""
    assert actual.shape == expected.shape and actual.isfinite().all()
    rest = [other for other in range(expected.dim()) if other != axis]
    scale = expected.abs().amax(rest)
    assert scale.all()
    return float(((actual - expected).abs().amax(rest) / scale).max())


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    assert found.keys() == expected.keys()
    for output, value in found.items():
        if output == "class_index":
            assert torch.equal(value, expected[output])
            continue
        assert worst(value, expected[output], slice_axis(output)) <= tolerance, output


def images() -> Tensor:
    return torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def resolved(target: Tensor, logits: Tensor) -> Tensor:
    """Class indices for ranks."""
    ranking = logits.argsort(1, descending=True)
    return torch.tensor(
        [
            [t if t >= 0 else int(order[-1 - t]) for t in row]
            for row, order in zip(target.tolist(), ranking, strict=True)
        ]
    )


def per_target(run: Callable[[Tensor], Tensor], classes: Tensor) -> Tensor:
    """[batch, targets, …] from a function of one class per image."""
    return torch.stack([run(column) for column in classes.unbind(1)], 1)


def check_gradient(model: nn.Module, graph: FusedGraph, pixels: Tensor, tolerance: float = 1e-9) -> None:
    """Logits, attention and the gradients by it and by the pixels as autograd has them on the unmodified model."""
    names = {"logits", "attention", "attention_gradient", "pixel_gradient"}.intersection(graph.names)
    found = graph.compute(pixels, TARGET, names)
    classes = resolved(TARGET, found["logits"])
    logits, attention, _ = eager.attention_and_gradient(model, pixels, classes[:, 0])
    expected = per_target(lambda column: eager.attention_and_gradient(model, pixels, column)[2], classes)
    assert worst(found["logits"], logits, 0) <= tolerance
    assert worst(found["attention"], attention, 1) <= tolerance
    assert worst(found["attention_gradient"], expected, 2) <= tolerance
    if "pixel_gradient" in found:
        expected = per_target(lambda column: pixel_gradient(model, pixels, column), classes)
        assert worst(found["pixel_gradient"], expected, 1) <= tolerance


def pixel_gradient(model: nn.Module, pixels: Tensor, target: Tensor) -> Tensor:
    """d logit_target / d pixels by autograd, [batch, 3, H, W]."""
    leaves = pixels.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(eager.target_logits(model(leaves), target).sum(), leaves)
    return gradient


class Hand(nn.Module):
    """One block in plain PyTorch.

    attend: of q, k, v, each [batch, 2 heads, 16 tokens, 8]. pool: what the head reads of [batch, 16 tokens, 16].
    before: what the block reads of the 16 patches.
    """

    def __init__(
        self,
        attend: Callable[..., Tensor],
        pool: Callable[[Tensor], Tensor] = lambda x: x.mean(1),
        before: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__()
        self.patches, self.qkv, self.proj = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head, self.attend, self.pool, self.before = nn.Linear(16, variants.CLASSES), attend, pool, before
        variants.randomise(self.double())

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.before(self.patches(pixels).flatten(2).transpose(1, 2))
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return self.head(self.pool(x))


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)
