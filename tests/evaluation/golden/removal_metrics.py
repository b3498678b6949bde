"""What Quantus and pytorch-grad-cam make of removed pixels, for the tests of ours: writes removal.npz beside this file.

    pip install quantus==0.6.0 grad-cam==1.5.7 && python tests/evaluation/golden/removal_metrics.py

The models are linear in the pixels, and ROAD's noise is switched off.
"""

from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import quantus
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined

FLIPPED = 14, 16
"""224 pixels, so that one of our steps is one pixel."""
IMPUTED = 16, 20
"""A multiple of ten pixels, so that the percentiles of pytorch-grad-cam remove whole tenths."""
SHARES = range(10, 100, 10)
PLAIN = {"normalise": False, "disable_warnings": True, "display_progressbar": False}


def distinct(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A map from 0 to 1 without equal values, float32 [H, W]."""
    return rng.permutation(np.linspace(0, 1, size[0] * size[1], dtype=np.float32)).reshape(size)


def linear(weight: np.ndarray) -> torch.nn.Module:
    """From inputs to logits, by float32 [classes, inputs]."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(weight)
    return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()


def pixel_flipping(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Quantus: the probability of class 1 after each pixel, highest first."""
    pixels = rng.standard_normal((3, *FLIPPED)).astype(np.float32)
    heatmap, weight = distinct(rng, FLIPPED), (0.1 * rng.standard_normal((4, pixels.size))).astype(np.float32)
    metric = quantus.PixelFlipping(features_in_step=1, perturb_baseline=0.0, **PLAIN)
    (curve,) = metric(linear(weight), pixels[None], np.array([1]), heatmap[None, None], softmax=True)
    return {
        "flipped_pixels": pixels,
        "flipped_map": heatmap,
        "flipped_weight": weight,
        "flipped_curve": np.array(curve)[2::3],  # a pixel's three channels, of equal value, go one by one
    }


def imputation(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """pytorch-grad-cam: the input without its highest 10, …, 90 %, and the score of class 1 that ROAD makes of them."""
    pixels = rng.standard_normal((3, *IMPUTED)).astype(np.float32)
    heatmap, weight = distinct(rng, IMPUTED), (0.1 * rng.standard_normal((4, pixels.size))).astype(np.float32)
    kept = [torch.from_numpy((heatmap < np.percentile(heatmap, 100 - share)).astype(np.float32)) for share in SHARES]
    imputer = NoisyLinearImputer(noise=0)
    with patch("torch.randn_like", torch.zeros_like):
        (score,) = ROADCombined()(
            torch.from_numpy(pixels)[None], heatmap[None], [lambda logits: logits.softmax(-1)[1]], linear(weight)
        )
    return {
        "imputed_pixels": pixels,
        "imputed_map": heatmap,
        "imputed_weight": weight,
        "imputed": np.stack([imputer(torch.from_numpy(pixels), mask).numpy() for mask in kept]),
        "road": np.array(score),
    }


def road_hits(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Quantus's ROAD: how many of eight images keep their class without the highest 10, …, 90 %.

    It takes images of one channel only.
    """
    pixels = rng.standard_normal((8, 1, *IMPUTED)).astype(np.float32)
    weight = (0.1 * rng.standard_normal((4, pixels[0].size))).astype(np.float32)
    maps = np.stack([distinct(rng, IMPUTED) for _ in pixels])
    classes = (pixels.reshape(8, -1) @ weight.T).argmax(axis=1)
    metric = quantus.ROAD(percentages=list(SHARES), noise=0.0, **PLAIN)
    hits = metric(linear(weight), pixels, classes, maps[:, None])
    return {
        "hit_pixels": pixels,
        "hit_maps": maps,
        "hit_weight": weight,
        "hit_classes": classes,
        "hits": np.array([hits[share] for share in SHARES]),
    }


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(3)
    np.savez_compressed(
        Path(__file__).with_name("removal.npz"),
        versions=np.array([f"quantus {quantus.__version__}", f"grad-cam {version('grad-cam')}"]),
        **pixel_flipping(rng),
        **imputation(rng),
        **road_hits(rng),
    )


if __name__ == "__main__":
    main()
