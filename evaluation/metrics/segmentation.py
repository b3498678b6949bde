"""Segmentation: how good a mask of the objects the map is, as in Chefer et al., CVPR 2021, section 4.

A pixel is foreground if it is above the mean of the whole map. The published program is followed but in three points:
it scores `input_x_gradient` with the threshold 0 after scaling, F1 is there a mean over rows of pixels, not of one
image, and a class that is neither in the map nor in the mask counts there as an intersection over union of 0.
"""

import numpy as np
from numpy.typing import NDArray

from .localisation import labelled
from .metric import Judged, Metric

_CHEFER = "Chefer, Gur, Wolf: Transformer Interpretability Beyond Attention Visualization, CVPR 2021"


def _foreground(judged: Judged) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Which labelled pixels the map takes for the object, and which are; both bool [n]. None as `labelled`."""
    if (known := labelled(judged)) is None:
        return None
    values, inside = known
    if judged.heatmap.min() == judged.heatmap.max():  # its mean may be off by rounding
        return np.zeros_like(inside), inside
    return values > judged.heatmap.mean(dtype=np.float64), inside


def pixel_accuracy(judged: Judged) -> tuple[float, float] | None:
    """The number of pixels that are rightly foreground or background, and of all."""
    if (masks := _foreground(judged)) is None:
        return None
    found, inside = masks
    return float((found == inside).sum()), float(inside.size)


def miou(judged: Judged) -> tuple[float, float, float, float] | None:
    """Intersections of the map's mask and the true one, of background and foreground, then the unions of both."""
    if (masks := _foreground(judged)) is None:
        return None
    found, inside = masks
    classes = ((~found, ~inside), (found, inside))
    intersections = [float((ours & theirs).sum()) for ours, theirs in classes]
    unions = [float((ours | theirs).sum()) for ours, theirs in classes]
    return intersections[0], intersections[1], unions[0], unions[1]


def f1(judged: Judged) -> tuple[float] | None:
    """2 TP / (2 TP + FP + FN) of the foreground."""
    if (masks := _foreground(judged)) is None:
        return None
    found, inside = masks
    return (float(2 * (found & inside).sum() / (found.sum() + inside.sum())),)


def average_precision(judged: Judged) -> tuple[float] | None:
    """The average precision of the map, scaled to 0 .. 1, for the object and of its complement for the background.

    Both are one ranking of twice as many pixels as the image has, as in the published program, so not only the order of
    the pixels counts: where most of a map is about 0 and it has negative values too, it matters whether 0 is above the
    middle of its range or below. All pixels of a constant map are equal.
    """
    if (known := labelled(judged)) is None:
        return None
    values, inside = known
    least, most = float(judged.heatmap.min()), float(judged.heatmap.max())
    if least == most:
        return (0.5,)
    scaled = (values - least) / (most - least)
    return (_average_precision(np.concatenate([scaled, 1 - scaled]), np.concatenate([inside, ~inside])),)


def _average_precision(scores: NDArray[np.float64], wanted: NDArray[np.bool_]) -> float:
    """AP = sum_n (R_n - R_(n-1)) P_n over the distinct scores, highest first; precision P and recall R at each."""
    descending = np.argsort(-scores)
    ordered = scores[descending]
    hits = np.cumsum(wanted[descending])
    last = np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)  # of the pixels of each score
    gained = np.diff(hits[last], prepend=0)
    return float((gained * hits[last] / (last + 1)).sum() / hits[-1])


def _ratio(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(means[..., 0] / means[..., 1])


def _mean_iou(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over those of background and foreground that are anywhere."""
    intersections, unions = means[..., :2], means[..., 2:]
    present = unions > 0
    shares = np.divide(intersections, unions, out=np.zeros_like(unions), where=present)
    return np.asarray(shares.sum(axis=-1) / present.sum(axis=-1))


ROWS = (
    Metric(
        "pixel_accuracy",
        pixel_accuracy,
        "higher",
        "share of the pixels that are rightly above the map's mean, or below it",
        _CHEFER,
        combine=_ratio,
        needs=frozenset({"mask"}),
    ),
    Metric(
        "miou",
        miou,
        "higher",
        "intersection over union of the pixels above the map's mean and the objects, and of the background",
        _CHEFER,
        combine=_mean_iou,
        needs=frozenset({"mask"}),
    ),
    Metric(
        "map",
        average_precision,
        "higher",
        "average precision of the map as a score of the objects, and of its complement as one of the background",
        _CHEFER,
        needs=frozenset({"mask"}),
    ),
    Metric(
        "f1",
        f1,
        "higher",
        "F1 of the pixels above the map's mean as the objects",
        _CHEFER,
        needs=frozenset({"mask"}),
    ),
)
