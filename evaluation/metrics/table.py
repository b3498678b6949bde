"""The metrics in one table."""

from . import faithfulness, form, localisation, robustness, sanity, segmentation
from .metric import Metric

_ROWS = (
    *faithfulness.ROWS,
    *localisation.ROWS,
    *segmentation.ROWS,
    *robustness.ROWS,
    *form.ROWS,
    *sanity.ROWS,
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""By name; in this order they are listed."""
