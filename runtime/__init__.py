"""Explain images with an exported artifact: onnxruntime, NumPy and Pillow, PyTorch only for TorchScript."""

from onnxplain.contract.errors import (
    ArtifactError,
    CacheWarning,
    ImageError,
    MethodError,
    OnnxplainError,
    OnnxplainWarning,
    RunError,
    TargetError,
)
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
from .outcome import Explanations, Outcome
from .sheet import comparison_sheet
from .targets import resolve_target

__all__ = [
    "METADATA_KEY",
    "METHODS",
    "PASSES",
    "REDUCTIONS",
    "ArtifactError",
    "CacheWarning",
    "Explainer",
    "Explanation",
    "Explanations",
    "ImageError",
    "Metadata",
    "Method",
    "MethodError",
    "OnnxplainError",
    "OnnxplainWarning",
    "Outcome",
    "Placement",
    "Preprocessing",
    "RunError",
    "TargetError",
    "available_methods",
    "comparable_methods",
    "comparison_sheet",
    "load_image",
    "preprocess",
    "resolve_target",
]
