"""The metrics in one table."""

from . import faithfulness
from .metric import Metric

METRICS: dict[str, Metric] = {row.name: row for row in (*faithfulness.ROWS,)}
