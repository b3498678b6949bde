"""Explain images with an exported artifact: onnxruntime, NumPy and Pillow, PyTorch only for TorchScript."""

from .choice import available_methods, comparable_methods
from .errors import CacheWarning, OnnxplainError, OnnxplainWarning
from .explainer import Explainer
from .geometry import Placement
from .loading import load_image
from .metadata import METADATA_KEY, Metadata, Preprocessing
from .method import Method
from .methods import METHODS
from .outputs import PASSES, REDUCTIONS
from .preprocessing import preprocess
from .result import Explanation
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
