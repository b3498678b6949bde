"""Maps that know nothing of the model: what every method has to be better than."""

from collections.abc import Callable

import numpy as np

from onnxplain.runtime.images.geometry import resize

from .metrics.metric import Case, Heatmap
from .metrics.purposes import RANDOM_MAP
from .results import YARDSTICKS


def random(case: Case) -> Heatmap:
    """A random number from 0 to 1 for each patch, enlarged as the maps of methods are."""
    return resize(case.random(RANDOM_MAP).random(case.patch_grid, dtype=np.float32), case.pixels.shape[1:])


def constant(case: Case) -> Heatmap:
    """The same value everywhere."""
    return np.ones(case.pixels.shape[1:], np.float32)


def gaussian(case: Case) -> Heatmap:
    """Highest in the middle; its standard deviation is a quarter of the height, and of the width."""
    y, x = (np.exp(-8 * ((np.arange(length) + 0.5) / length - 0.5) ** 2) for length in case.pixels.shape[1:])
    return np.outer(y, x).astype(np.float32)


MAPS: dict[str, Callable[[Case], Heatmap]] = {"random": random, "constant": constant, "gaussian": gaussian}
assert tuple(MAPS) == YARDSTICKS, MAPS.keys()
