"""Explain images with an exported artifact: onnxruntime, NumPy and Pillow, PyTorch only for TorchScript.

The names below are imported when they are first used: the command line shows its help from data that are here, without
onnxruntime and NumPy.
"""

from typing import TYPE_CHECKING

from onnxplain.contract.lazy import importer

if TYPE_CHECKING:
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
    from onnxplain.contract.metadata import METADATA_KEY, Metadata
    from onnxplain.contract.outputs import PASSES, REDUCTIONS
    from onnxplain.contract.preprocessing import Preprocessing

    from .comparison import models_sheet
    from .explainer import Explainer
    from .explanation import Explanation
    from .figures.sheet import comparison_sheet
    from .figures.style import Style
    from .images.geometry import Placement
    from .images.loading import load_image
    from .images.preprocessing import preprocess
    from .methods.choice import available_methods, comparable_methods
    from .methods.method import Method
    from .methods.table import METHODS
    from .outcome import Explanations, Outcome
    from .targets import resolve_target
    from .views.features import Features
    from .views.heads import Heads

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
    "Features",
    "Heads",
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
    "Style",
    "TargetError",
    "available_methods",
    "comparable_methods",
    "comparison_sheet",
    "load_image",
    "models_sheet",
    "preprocess",
    "resolve_target",
]

_MODULES = {
    "METADATA_KEY": "..contract.metadata",
    "METHODS": ".methods.table",
    "PASSES": "..contract.outputs",
    "REDUCTIONS": "..contract.outputs",
    "ArtifactError": "..contract.errors",
    "CacheWarning": "..contract.errors",
    "Explainer": ".explainer",
    "Explanation": ".explanation",
    "Explanations": ".outcome",
    "Features": ".views.features",
    "Heads": ".views.heads",
    "ImageError": "..contract.errors",
    "Metadata": "..contract.metadata",
    "Method": ".methods.method",
    "MethodError": "..contract.errors",
    "OnnxplainError": "..contract.errors",
    "OnnxplainWarning": "..contract.errors",
    "Outcome": ".outcome",
    "Placement": ".images.geometry",
    "Preprocessing": "..contract.preprocessing",
    "RunError": "..contract.errors",
    "Style": ".figures.style",
    "TargetError": "..contract.errors",
    "available_methods": ".methods.choice",
    "comparable_methods": ".methods.choice",
    "comparison_sheet": ".figures.sheet",
    "load_image": ".images.loading",
    "models_sheet": ".comparison",
    "preprocess": ".images.preprocessing",
    "resolve_target": ".targets",
}

__getattr__ = importer(__name__, _MODULES)
