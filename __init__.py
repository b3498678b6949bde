"""Explain Vision Transformers: export one as a single file, then see where it looks, without PyTorch.

The names below are imported when they are first used: importing onnxplain alone loads neither PyTorch nor onnxruntime.
"""

from typing import TYPE_CHECKING, Any

from .contract.lazy import importer

if TYPE_CHECKING:
    from .contract.errors import ArtifactError, ImageError, MethodError, OnnxplainError, RunError, TargetError
    from .export import export_model, load_backbone
    from .runtime import Explainer, Explanation, Explanations

__all__ = [
    "ArtifactError",
    "Explainer",
    "Explanation",
    "Explanations",
    "ImageError",
    "MethodError",
    "OnnxplainError",
    "RunError",
    "TargetError",
    "export_model",
    "load_backbone",
]

_MODULES = {
    "ArtifactError": ".contract.errors",
    "Explainer": ".runtime",
    "Explanation": ".runtime",
    "Explanations": ".runtime",
    "ImageError": ".contract.errors",
    "MethodError": ".contract.errors",
    "OnnxplainError": ".contract.errors",
    "RunError": ".contract.errors",
    "TargetError": ".contract.errors",
    "export_model": ".export",
    "load_backbone": ".export",
}

_import = importer(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    return _import(name)
