"""Localisation: is the map where the objects of the class are?"""

import numpy as np
from numpy.typing import NDArray

from ..samples import IGNORED, OBJECT
from .metric import Judged, Metric

_ZHANG = "Zhang et al.: Top-down Neural Attention by Excitation Backprop, ECCV 2016"
_ARRAS = "Arras, Osman, Samek: CLEVR-XAI, A benchmark dataset for the ground truth evaluation of explanations, 2022"


def labelled(judged: Judged) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """The map where it is known what is object and what is not.

    Returns:
        The values of the pixels that are not ignored, float64 [n], and which of them are of an object, bool [n]; None
        if there is no mask, or no object in what the model sees.
    """
    if judged.mask is None or not (judged.mask == OBJECT).any():
        return None
    counted = judged.mask != IGNORED
    return judged.heatmap[counted].astype(np.float64), judged.mask[counted] == OBJECT


def pointing_game(judged: Judged) -> tuple[float] | None:
    """1 if the map's maximum lies in an object, else 0; of several equal maxima, the share of them that does.

    If one of them were enough, as some programs have it, a constant map would be the best of all.
    """
    if (known := labelled(judged)) is None:
        return None
    values, inside = known
    return (float(inside[values == values.max()].mean()),)


def mass(judged: Judged) -> tuple[float] | None:
    """The share of the map's positive part that lies in the objects; 0 if it has no positive part."""
    if (known := labelled(judged)) is None:
        return None
    values, inside = known
    positive = np.maximum(values, 0)
    total = positive.sum()
    return (float(positive[inside].sum() / total) if total > 0 else 0.0,)


def rank(judged: Judged) -> tuple[float] | None:
    """The share that lies in the objects of the K highest pixels, K the number of pixels of the objects.

    Of equal values that are not all among the K highest, each is so with the same probability: the share is the
    expected one. Quantus takes those that its sort puts first.
    """
    if (known := labelled(judged)) is None:
        return None
    values, inside = known
    count = int(inside.sum())
    least = np.partition(values, -count)[-count]
    above, tied = values > least, values == least
    hits = inside[above].sum() + inside[tied].mean() * (count - above.sum())
    return (float(hits / count),)


ROWS = (
    Metric(
        "pointing_game",
        pointing_game,
        "higher",
        "whether the map's maximum lies in an object of the class",
        _ZHANG,
        needs=frozenset({"mask"}),
        default=True,
    ),
    Metric(
        "mass",
        mass,
        "higher",
        "share of the map's positive part that lies in the objects of the class",
        f"relevance mass accuracy of {_ARRAS}",
        needs=frozenset({"mask"}),
        default=True,
    ),
    Metric(
        "rank",
        rank,
        "higher",
        "share in the objects of the class of as many highest pixels as these objects have",
        f"relevance rank accuracy of {_ARRAS}",
        needs=frozenset({"mask"}),
    ),
)
