"""Explain images with an exported artifact: onnxruntime, NumPy and Pillow, PyTorch only for TorchScript."""

from onnxplain.contract.errors import CacheWarning, OnnxplainError, OnnxplainWarning
from onnxplain.contract.metadata import METADATA_KEY, Metadata, Preprocessing
from onnxplain.contract.outputs import PASSES, REDUCTIONS

from .explainer import Explainer
from .explanation import Explanation
from .images.geometry import Placement
from .images.loading import load_image
from .images.preprocessing import preprocess
from .methods.choice import available_methods, comparable_methods
from .methods.method import Method
from .methods.table import METHODS
from .sheet import comparison_sheet
from .targets import resolve_target

__all__ = [
    "METADATA_KEY",
    "METHODS",
    "PASSES",
    "REDUCTIONS",
    "CacheWarning",
    "Explainer",
    "Explanation",
    "Metadata",
    "Method",
    "OnnxplainError",
    "OnnxplainWarning",
    "Placement",
    "Preprocessing",
    "available_methods",
    "comparable_methods",
    "comparison_sheet",
    "load_image",
    "preprocess",
    "resolve_target",
]
