"""How alike two maps are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pearson(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Pearson's correlation of two maps of one shape, in float64; None if one of them is constant."""
    centred = [each.ravel().astype(np.float64) - each.flat[0] for each in (first, second)]
    unit = []
    for each in centred:
        each -= each.mean()
        norm = np.linalg.norm(each)
        if norm == 0:
            return None
        unit.append(each / norm)
    return float(np.clip(unit[0] @ unit[1], -1, 1))
