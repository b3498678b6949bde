"""Train the demo model from nothing and write its weights: ``python -m onnxplain.demo.train``.

From scratch on whole scenes it learns nothing for a long time; single digits on small pictures first, then scenes with
the position embedding resampled, takes off at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from timm.layers import resample_abs_pos_embed
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


def fit(model: VisionTransformer, data: Dataset[tuple[Tensor, Tensor]], rate: float, name: str) -> None:
    """One pass over ``data`` in batches of 64 with AdamW and a cosine schedule."""
    loader = DataLoader(data, batch_size=64, num_workers=1, prefetch_factor=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, len(loader), warmup_t=100, warmup_lr_init=rate / 100, t_in_epochs=False)
    model.train()
    for step, (pixels, labels) in enumerate(track(loader, name)):
        schedule.step_update(step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(pixels)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
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


def main(output: Path = Path(str(WEIGHTS)), small_steps: int = 1500, steps: int = 2500, seed: int = 0) -> None:
    """Train, print the mean average precision on unseen digits, save the weights."""
    torch.manual_seed(seed)
    small = architecture(SMALL)
    fit(small, Scenes(0, small_steps * 64, "train", size=SMALL, digits=(1, 1)), 1e-3, "single digits")
    print(
        f"mAP on single digits: {mean_average_precision(small, Scenes(0, 500, 'test', size=SMALL, digits=(1, 1))):.4f}"
    )
    model = architecture()
    weights = small.state_dict()
    weights["pos_embed"] = resample_abs_pos_embed(weights["pos_embed"], model.patch_embed.grid_size)
    model.load_state_dict(weights)
    fit(model, Scenes(10**6, steps * 64, "train"), 1e-3, "scenes")
    print(f"mAP on scenes of digits never trained on: {mean_average_precision(model, Scenes(0, 1000, 'test')):.4f}")
    save_file(model.state_dict(), output)


if __name__ == "__main__":
    typer.run(main)
