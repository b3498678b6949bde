"""Sanity: does the map depend on the class, and does it add up to what it is to explain?"""

from collections.abc import Iterator

import numpy as np

from .metric import Case, Heatmap, Judged, Metric, Pixels
from .removal import black
from .similarity import spearman

FROM_BLACK = ("integrated_gradients",)
"""Methods whose maps sum to the logit minus that of a black image."""
FROM_ZERO = ("attnlrp", "cp_lrp")
"""Methods whose maps sum to the logit itself, but for what biases take; on a model without biases exactly."""


def random_logit(judged: Judged) -> tuple[float] | None:
    """Spearman's rank correlation of the map and the same method's map for another class.

    Sixt et al. take the structural similarity of images; ranks need no window, and the scale of maps does not count.
    """
    return None if judged.other is None else (spearman(judged.heatmap, judged.other),)


def black_image(case: Case, heatmap: Heatmap, baseline: str) -> Iterator[Pixels]:
    """A black image as the model's input."""
    yield np.broadcast_to(black(case), case.pixels.shape).copy()


def completeness(judged: Judged) -> tuple[float] | None:
    """|sum m - (z(x) - z_0)| / |z(x)|: what is missing from the sum that a method promises, as a share of the logit.

    z_0 is the logit of the black image for integrated gradients (with its default baseline), and 0 for relevance.
    """
    logit = float(judged.case.logits[judged.target])
    if logit == 0:
        return None
    start = float(judged.logits[0, judged.target]) if judged.method in FROM_BLACK else 0.0
    return (abs(float(judged.heatmap.sum(dtype=np.float64)) - (logit - start)) / abs(logit),)


ROWS = (
    Metric(
        "random_logit",
        random_logit,
        "lower",
        "rank correlation of the map and the one for another class: 1 if the class makes no difference",
        "Sixt, Granz, Landgraf: When Explanations Lie, Why Many Modified BP Attributions Fail, ICML 2020",
        needs=frozenset({"other"}),
        default=True,
    ),
    Metric(
        "completeness",
        completeness,
        "lower",
        "what is missing from the sum that the method promises, as a share of the logit",
        "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017",
        copies=black_image,
        copies_per_map=False,
        only=(*FROM_ZERO, *FROM_BLACK),
    ),
)
