"""How alike a map of the trained model and one of a model with random weights are, and how much each holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.evaluation.metrics.similarity import spearman

Map = NDArray[np.float64]

BINS = 100
"""Of the histogram that `entropy` is computed of, as in Hedström et al. 2024."""
WINDOW = 7
"""Side of the windows of `ssim`, in values of the map."""


def compare(trained: Map, random: Map, relative: bool) -> dict[str, float]:
    """Compare two maps of the same image, class and method.

    Args:
        trained: [h, w], of the trained model.
        random: [h, w], of the model with random weights.
        relative: Whether the maps have no zero, so that there is no sign; they are taken from their least value then.

    Returns:
        ``spearman``: the rank correlation of the values as they are. ``spearman_absolute``: that of the absolute
        values. ``ssim``: the structural similarity of the absolute values. ``emprt``: (H(random) - H(trained)) /
        H(trained) with the entropy H of a map (Hedström et al. 2024); NaN where the trained model's is 0.
    """
    sizes = [each - each.min() if relative else np.abs(each) for each in (trained, random)]
    before, after = entropy(trained), entropy(random)
    return {
        "spearman": spearman(trained, random),
        "spearman_absolute": spearman(*sizes),
        "ssim": ssim(*sizes),
        "emprt": (after - before) / before if before else np.nan,
    }


def ssim(first: Map, second: Map) -> float:
    """Structural similarity of two maps (Wang et al. 2004), -1 to 1, each scaled to 0 .. 1 before.

    Over windows of 7 x 7 values, or as many as a smaller map has, of equal weight; a constant map is all 0.
    """
    from skimage.metrics import structural_similarity

    scaled = [(each - each.min()) / (np.ptp(each) or 1) for each in (first, second)]
    window = min(WINDOW, *(side - 1 + side % 2 for side in first.shape))
    return float(structural_similarity(*scaled, win_size=window, data_range=1.0))


def entropy(values: Map) -> float:
    """Entropy in nats of the histogram of a map's values, over 100 bins of equal width from the least to the greatest.

    A map of one value has 0.
    """
    counts, _ = np.histogram(values, BINS)
    shares = counts[counts > 0] / values.size
    return float(-(shares * np.log(shares)).sum())


def check_installed() -> None:
    """Raise OnnxplainError if scikit-image is missing."""
    try:
        import skimage.metrics  # noqa: F401
    except ModuleNotFoundError as error:
        raise OnnxplainError(f"the sanity test needs {error.name}: pip install 'onnxplain[report]'") from None
