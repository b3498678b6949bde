"""Train the demo model from nothing and write its weights: ``python -m onnxplain.demo.train``.

From scratch on whole scenes it learns nothing for a long time. So it first sees single digits through a window: a small
picture that stands for a random part of a scene, with the position embedding of that part. Then whole scenes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from timm.models.vision_transformer import VisionTransformer
from timm.scheduler import CosineLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .model import WEIGHTS, architecture
from .scenes import Split, scene

SMALL = 48


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Scenes ``first`` to ``first + count`` as (pixels [3, H, W] in -1..1, labels [10] of 0 and 1)."""

    def __init__(self, first: int, count: int, split: Split, **options: Any) -> None:
        self.seeds, self.split, self.options = range(first, first + count), split, options

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        drawn = scene(self.seeds[index], self.split, **self.options)
        labels = torch.zeros(10)
        labels[list(drawn.labels)] = 1
        return torch.from_numpy(drawn.picture).permute(2, 0, 1) / 127.5 - 1, labels


def window(model: VisionTransformer, pixels: Tensor) -> Tensor:
    """Logits for pictures smaller than a scene, placed as one at random in the scene's grid of patches."""
    rows, columns = model.patch_embed.grid_size
    height, width = (side // 8 for side in pixels.shape[2:])
    top, left = (int(torch.randint(n + 1, ())) for n in (rows - height, columns - width))
    places = torch.arange(rows * columns).reshape(rows, columns)[top : top + height, left : left + width].flatten()
    position = model.pos_embed[:, torch.cat([torch.tensor([0]), 1 + places])]
    tokens = model.patch_embed.proj(pixels).flatten(2).mT
    x = torch.cat([model.cls_token.expand(len(tokens), -1, -1), tokens], 1) + position
    return model.forward_head(model.norm(model.blocks(x)))


def fit(model: VisionTransformer, data: Dataset[tuple[Tensor, Tensor]], rate: float, name: str) -> None:
    """One pass over ``data`` in batches of 64 with AdamW and a cosine schedule."""
    loader = DataLoader(data, batch_size=64, num_workers=1, prefetch_factor=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, len(loader), warmup_t=100, warmup_lr_init=rate / 100, t_in_epochs=False)
    model.train()
    for step, (pixels, labels) in enumerate(track(loader, name)):
        schedule.step_update(step)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(window(model, pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"{name}, step {step + 1}: loss {loss.item():.3f}", flush=True)


@torch.inference_mode()
def mean_average_precision(model: VisionTransformer, data: Dataset[tuple[Tensor, Tensor]]) -> float:
    """Average precision of each class over ``data``, averaged over the ten classes."""
    model.eval()
    logits, labels = zip(*((model(x), y) for x, y in DataLoader(data, batch_size=100)), strict=True)
    return float(average_precision_score(torch.cat(labels).numpy(), torch.cat(logits).numpy(), average="macro"))


def main(output: Path = Path(str(WEIGHTS)), window_steps: int = 1500, steps: int = 1500, seed: int = 0) -> None:
    """Train, print the mean average precision on unseen digits, save the weights."""
    torch.manual_seed(seed)
    model = architecture()
    fit(model, Scenes(0, window_steps * 64, "train", size=SMALL, digits=(1, 1)), 1e-3, "single digits")
    print(f"mAP on scenes after single digits: {mean_average_precision(model, Scenes(0, 300, 'test')):.4f}", flush=True)
    fit(model, Scenes(10**6, steps * 64, "train"), 7e-4, "scenes")
    print(f"mAP on scenes of digits never trained on: {mean_average_precision(model, Scenes(0, 1000, 'test')):.4f}")
    save_file(model.state_dict(), output)


if __name__ == "__main__":
    typer.run(main)
