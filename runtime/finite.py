"""The check that no NaN and no infinity is given as a result."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import RunError

CAUSES = "weights of the artifact may be damaged, or numbers arise on the way that are too large for float32"


def check_finite(what: str, values: NDArray[np.floating[Any]]) -> None:
    """Raise RunError if any of the values is NaN or infinite; `what` names them, in the plural."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = values.size - np.count_nonzero(finite)
        raise RunError(f"{what} are not finite: {bad} of {values.size} are NaN or infinite; {CAUSES}")
