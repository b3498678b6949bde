"""Maps as metrics get them."""

from collections.abc import Sequence

import numpy as np

from onnxplain.contract import Preprocessing
from onnxplain.evaluation.metrics.metric import Case, Judged
from tests.helpers.cases import softmax

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)


def case(size=(6, 8), logits=(2.0, -1.0, 0.5), seed=0) -> Case:
    pixels = np.random.default_rng(seed).normal(size=(3, *size)).astype(np.float32)
    return Case(pixels, np.array(logits, np.float32), softmax, Preprocessing(size, MEAN, STD), (2, 2), seed)


def judged(heatmap, mask=None, *, other=None, maps=None, logits=((),), target=0, method="m", given=None) -> Judged:
    """A map of the image `given`, or that of `case`; `maps` is a function of one input [3, H, W]."""
    heatmap = np.asarray(heatmap, np.float32)

    def run(name: str, make_inputs) -> Sequence[np.ndarray]:
        return [maps(inputs) for inputs in make_inputs()]

    return Judged(
        case=given or case(heatmap.shape),
        heatmap=heatmap,
        target=target,
        method=method,
        logits=np.asarray(logits, np.float32),
        mask=None if mask is None else np.asarray(mask, np.uint8),
        other=None if other is None else np.asarray(other, np.float32),
        maps=run if maps else None,
        own_maps=None,
    )
