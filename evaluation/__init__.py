"""Which map to believe: explanation methods measured on images with known classes, by onnxruntime and NumPy alone.

The names below are imported when they are first used.
"""

from typing import TYPE_CHECKING

from onnxplain.contract.lazy import importer

if TYPE_CHECKING:
    from .data.data_set import DataSet
    from .data.opening import open_data
    from .metrics.metric import Metric
    from .metrics.table import METRICS
    from .report.write import write_report
    from .results import ImageResult, Measured, Results
    from .runner import evaluate
    from .samples import Boxes, Region, Sample
    from .statistics import Comparison, Score, Statistics, summarize

__all__ = [
    "METRICS",
    "Boxes",
    "Comparison",
    "DataSet",
    "ImageResult",
    "Measured",
    "Metric",
    "Region",
    "Results",
    "Sample",
    "Score",
    "Statistics",
    "evaluate",
    "open_data",
    "summarize",
    "write_report",
]

_MODULES = {
    "METRICS": ".metrics.table",
    "Boxes": ".samples",
    "Comparison": ".statistics",
    "DataSet": ".data.data_set",
    "ImageResult": ".results",
    "Measured": ".results",
    "Metric": ".metrics.metric",
    "Region": ".samples",
    "Results": ".results",
    "Sample": ".samples",
    "Score": ".statistics",
    "Statistics": ".statistics",
    "evaluate": ".runner",
    "open_data": ".data.opening",
    "summarize": ".statistics",
    "write_report": ".report.write",
}

__getattr__ = importer(__name__, _MODULES)
