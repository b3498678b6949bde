"""No number that is none becomes an answer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError

CAUSES = "weights of the artifact may be damaged, or numbers arise on the way that are too large for float32"


def check_finite(what: str, values: NDArray[np.floating[Any]]) -> None:
    """Raise OnnxplainError if any of them is NaN or infinite; `what` they are, in the plural."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = values.size - np.count_nonzero(finite)
        raise OnnxplainError(f"{what} are not finite: {bad} of {values.size} are NaN or infinite; {CAUSES}")
