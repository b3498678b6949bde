"""A small TorchScript artifact, made by hand as tiny_artifact.py makes one of ONNX, with attention alone."""

from pathlib import Path

import torch
from torch import Tensor, nn

from onnxplain.export.formats.torchscript_file import save_torchscript
from onnxplain.runtime import Metadata, Preprocessing

LABELS = ["tabby", "crane", "dog"]


class Scripted(nn.Module):
    """Logits from the mean colour, attention from the means of 2 x 3 patches of 8 pixels and a class token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(3 * torch.randn(3, len(LABELS)))
        self.scale = nn.Parameter(2 * torch.randn(1, 2, 2, 7, 1))

    def forward(
        self, pixels: Tensor, target: Tensor, with_attention: bool = True, with_attention_mean: bool = True,
        with_attention_max: bool = True, with_attention_min: bool = True,
    ) -> dict[str, Tensor]:  # fmt: skip
        """As the contract says; what is not asked for is empty."""
        patches = nn.functional.avg_pool2d(pixels, 8).mean(1).flatten(1)
        keys = nn.functional.pad(patches, [1, 0])[:, None, None, None]
        attention = (keys * self.scale).softmax(-1)
        empty = torch.zeros(0)
        logits = pixels.mean([2, 3]) @ self.weight
        ranked = logits.argsort(1, descending=True).gather(1, (-1 - target).clamp(0))
        return {
            "logits": logits,
            "class_index": torch.where(target < 0, ranked, target),
            "attention": attention if with_attention else empty,
            "attention_mean": attention.mean(2) if with_attention_mean else empty,
            "attention_max": attention.amax(2) if with_attention_max else empty,
            "attention_min": attention.amin(2) if with_attention_min else empty,
        }


def save_scripted(path: Path) -> None:
    """Write the artifact."""
    metadata = Metadata(
        model="tiny",
        checkpoint={"source": "random", "sha256": None},
        preprocessing=Preprocessing((16, 24), (0.5,) * 3, (0.25,) * 3, 0.9, "center", "bicubic"),
        labels=tuple(LABELS),
        activation="softmax",
        patch_grid=(2, 3),
        prefix_tokens=1,
        readout=(0,),
        layers=2,
        heads=2,
        token_width=8,
        hidden_width=32,
        passes=("attention",),
    )
    save_torchscript(torch.jit.script(Scripted()), metadata.to_json(), path)
