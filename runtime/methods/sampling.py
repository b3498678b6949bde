"""The functions behind the methods that run the graph many times over one image: NumPy, from its pixels to maps.

Every function takes `pixels`, the model's input float32 [3, H, W], an `Evaluator`, which runs the graph for the targets
asked for, and its parameters by name. All targets share the runs. It returns one map for each target, float64
[T, H, W]. Inputs are made as they are needed. Random numbers come from `numpy.random.default_rng(seed)` in the order of
the runs, so that a seed names a result, whatever else is explained along with the image.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..images.geometry import resize

Pixels = NDArray[np.floating[Any]]
Maps = NDArray[np.float64]


class Evaluator(Protocol):
    """Runs the graph on many inputs [3, H, W], in batches; what it yields has the order of the inputs."""

    @property
    def black(self) -> NDArray[np.float32]:
        """Black as the model sees it, [3, 1, 1]."""

    def gradients(self, inputs: Iterable[Pixels]) -> Iterator[NDArray[np.float32]]:
        """For each input d logit / d pixels, [T, 3, H, W]."""

    def probabilities(self, inputs: Iterable[Pixels]) -> Iterator[NDArray[np.float64]]:
        """For each input the probabilities of the targets, [T]."""


def integrated_gradients(pixels: Pixels, evaluate: Evaluator, *, steps: int, baseline: str) -> Maps:
    """map = sum_c (x - b)_c mean_k G_c(b + (k + 0.5) / steps (x - b)), k = 0..steps-1, G = d logit / d pixels.

    Sundararajan et al. 2017, equation 1, by the midpoint rule. `baseline` b: black, or the mean colour of
    preprocessing, which is 0 to the model.
    """
    start = evaluate.black.astype(np.float64) if baseline == "black" else np.zeros((3, 1, 1))
    path = pixels - start
    points = (start + (number + 0.5) / steps * path for number in range(steps))
    total = sum(gradient.astype(np.float64) for gradient in evaluate.gradients(points))
    return np.asarray((path * total / steps).sum(axis=1))


def smoothgrad(pixels: Pixels, evaluate: Evaluator, *, samples: int, noise: float, seed: int) -> Maps:
    """map = sum_c mean over samples of G_c(x + noise (max x - min x) n), n standard normal (Smilkov et al. 2017)."""
    rng = np.random.default_rng(seed)
    scale = noise * float(np.ptp(pixels))
    noisy = (pixels + scale * rng.standard_normal(pixels.shape) for _ in range(samples))
    total = sum(gradient.sum(axis=1, dtype=np.float64) for gradient in evaluate.gradients(noisy))
    return np.asarray(total / samples)


def rise(pixels: Pixels, evaluate: Evaluator, *, masks: int, cells: int, probability: float, seed: int) -> Maps:
    """map = sum_i p(x m_i) m_i / (masks probability), p the target's probability (Petsiuk et al. 2018, equation 6).

    The image is multiplied by a mask before it is normalised: where m is 0 it is black.
    """
    made = _masks(pixels.shape[1:], masks, cells, probability, np.random.default_rng(seed))
    made, shown = itertools.tee(made)  # holds those of one batch
    inputs = (evaluate.black + mask * (pixels - evaluate.black) for mask in shown)
    answers = evaluate.probabilities(inputs)
    total = sum(answer[:, None, None] * mask for answer, mask in zip(answers, made, strict=True))
    return np.asarray(total / (masks * probability))


def _masks(
    size: tuple[int, ...], count: int, cells: int, probability: float, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Random masks [H, W]: a binary grid, enlarged to one cell more than the image and cut out at a random place."""
    cell = [-(-length // cells) for length in size]
    for _ in range(count):
        grid = (rng.random((cells, cells)) < probability).astype(np.float64)
        top, left = (int(rng.integers(0, length)) for length in cell)
        enlarged = resize(grid, ((cells + 1) * cell[0], (cells + 1) * cell[1]))
        yield np.asarray(enlarged[top : top + size[0], left : left + size[1]])
