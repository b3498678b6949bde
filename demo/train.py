"""Train the demo model from nothing and write its weights: ``python -m onnxplain.demo.train demo.safetensors``.

From the labels of whole scenes alone it learns nothing for a long time. Three things help. The position embedding
starts as sines and cosines, so that patches find their neighbours. Training begins with single digits seen through a
window: a small image that stands for a random part of a scene, with the position embedding of that part. And a second
head, dropped afterwards, has to tell of every patch which digit it belongs to.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from .model import architecture
from .scenes import SIZE, Split, scene

Example = tuple[Tensor, Tensor, Tensor]


class Stage(NamedTuple):
    """A part of the training.

    Attributes:
        steps: Of the optimizer, one batch each.
        size: Side of the images in pixels.
        digits: Least and greatest number of digits in them.
    """

    steps: int
    size: int
    digits: tuple[int, int]


STAGES = (Stage(700, 48, (1, 1)), Stage(1700, SIZE, (2, 3)))
BATCH = 64
PATCH = 8


class Scenes(Dataset[Example]):
    """Scenes with the seeds ``first`` to ``first + count``.

    Each is a tuple of pixels [3, H, W] in -1..1, labels [10] of 0 and 1, and for each patch the digit in whose box its
    centre lies, or 10 for none, [patches].
    """

    def __init__(
        self, first: int, count: int, split: Split, size: int = SIZE, digits: tuple[int, int] = (2, 3)
    ) -> None:
        self.seeds, self.split, self.size, self.digits = range(first, first + count), split, size, digits

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Example:
        drawn_scene = scene(self.seeds[index], self.split, self.size, self.digits)
        labels = torch.zeros(10)
        labels[list(drawn_scene.labels)] = 1
        owner = torch.full(drawn_scene.image.shape[:2], 10)
        for label, (left, top, right, bottom) in zip(drawn_scene.labels, drawn_scene.boxes, strict=True):
            owner[top:bottom, left:right] = label
        centres = owner[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].flatten()
        return torch.from_numpy(drawn_scene.image).permute(2, 0, 1) / 127.5 - 1, labels, centres


def window(model: VisionTransformer, pixels: Tensor) -> Tensor:
    """The last block's normalised tokens, [batch, 1 + patches, width].

    Args:
        model: From ``architecture``.
        pixels: [batch, 3, H, W], as large as a scene or smaller; it is placed at random in the scene's grid of patches.
    """
    rows, columns = model.patch_embed.grid_size
    height, width = (side // PATCH for side in pixels.shape[2:])
    top, left = (int(torch.randint(n + 1, ())) for n in (rows - height, columns - width))
    places = torch.arange(rows * columns).reshape(rows, columns)[top : top + height, left : left + width].flatten()
    assert model.pos_embed is not None and model.cls_token is not None, "as architecture() makes it"
    position = model.pos_embed[:, torch.cat([torch.tensor([0]), 1 + places])]
    tokens = model.patch_embed.proj(pixels).flatten(2).mT
    tokens = torch.cat([model.cls_token.expand(len(tokens), -1, -1), tokens], 1) + position
    normalised: Tensor = model.norm(model.blocks(tokens))
    return normalised


def fit(model: VisionTransformer, patch_head: nn.Linear, stage: Stage, data: Dataset[Example]) -> None:
    """One pass over ``data`` with AdamW and a cosine schedule."""
    name, rate = f"{stage.size} pixels", 1.5e-3
    loader = DataLoader(data, batch_size=BATCH, num_workers=1, prefetch_factor=8)
    parameters = [*model.parameters(), *patch_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05)
    schedule = CosineLRScheduler(optimizer, len(loader), warmup_t=100, warmup_lr_init=rate / 100, t_in_epochs=False)
    model.train()
    for step, (pixels, labels, owners) in enumerate(track(loader, name)):
        schedule.step_update(step)
        tokens = window(model, pixels)
        scene_loss = functional.binary_cross_entropy_with_logits(model.forward_head(tokens), labels)
        patch_loss = functional.cross_entropy(patch_head(tokens[:, 1:]).mT, owners)
        optimizer.zero_grad()
        (scene_loss + patch_loss).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"{name}, step {step + 1}: scene loss {scene_loss:.3f}, patch loss {patch_loss:.3f}", flush=True)


@torch.inference_mode()
def mean_average_precision(model: VisionTransformer) -> float:
    """Average precision of each class over 500 scenes of unseen digits, averaged over the ten classes."""
    model.eval()
    batches = [(model(pixels), labels) for pixels, labels, _ in DataLoader(Scenes(0, 500, "test"), batch_size=100)]
    logits, labels = map(torch.cat, zip(*batches, strict=True))
    return float(average_precision_score(labels.numpy(), logits.numpy(), average="macro"))


def main(output: Path, seed: int = 0) -> None:
    """Train, print the mean average precision on unseen digits, save the weights as safetensors."""
    torch.manual_seed(seed)
    model = architecture()
    sines = build_sincos2d_pos_embed(list(model.patch_embed.grid_size), model.embed_dim)
    assert model.pos_embed is not None, "as architecture() makes it"
    model.pos_embed.data[0, 1:] = sines / 5
    patch_head = nn.Linear(model.embed_dim, 11)
    for number, stage in enumerate(STAGES):
        fit(model, patch_head, stage, Scenes(number * 10**6, stage.steps * BATCH, "train", stage.size, stage.digits))
        print(f"mAP on scenes of digits never trained on: {mean_average_precision(model):.4f}", flush=True)
        save_file(model.state_dict(), output)


if __name__ == "__main__":
    typer.run(main)
