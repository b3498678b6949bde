"""Form: what the map is like, whatever the image."""

import numpy as np

from .metric import Judged, Metric


def sparseness(judged: Judged) -> tuple[float]:
    """The Gini index sum_k (2 k - n - 1) a_(k) / (n sum a) of a = |map| ascending, k = 1 .. n.

    0 if all are equal, as in a map of zeros, and 1 - 1 / n if all but one are 0.
    """
    ascending = np.sort(np.abs(judged.heatmap.astype(np.float64)), axis=None)
    count, total = ascending.size, ascending.sum()
    if ascending[0] == ascending[-1]:
        return (0.0,)
    weights = 2 * np.arange(1, count + 1) - count - 1
    return (float((weights * ascending).sum() / (count * total)),)


def complexity(judged: Judged) -> tuple[float]:
    """The entropy -sum p ln p of p = |map| / sum |map|, in nats.

    ln n if all n pixels are equal, as in a map of zeros, and 0 if all but one are 0.
    """
    sizes = np.abs(judged.heatmap.astype(np.float64))
    if not sizes.any():
        return (float(np.log(sizes.size)),)
    shares = sizes[sizes > 0] / sizes.sum()
    return (float(-(shares * np.log(shares)).sum()),)


ROWS = (
    Metric(
        "sparseness",
        sparseness,
        "neither",
        "Gini index of the map's absolute values: 0 all equal, 1 all in one pixel",
        "Chalasani et al.: Concise Explanations of Neural Networks using Adversarial Training, ICML 2020",
        default=True,
    ),
    Metric(
        "complexity",
        complexity,
        "neither",
        "entropy of the map's absolute values in nats: 0 all in one pixel, ln n all n equal",
        "Bhatt, Weller, Moura: Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020",
    ),
)
