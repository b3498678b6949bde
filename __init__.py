"""Explain Vision Transformers: export one as a single file, then see where it looks, without PyTorch.

The names below are imported when they are first used: importing onnxplain alone loads neither PyTorch nor onnxruntime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import OnnxplainError
    from .export import export_model, load_backbone
    from .runtime import Explainer, Explanation

__all__ = ["Explainer", "Explanation", "OnnxplainError", "export_model", "load_backbone"]

_PACKAGES = {
    "Explainer": "runtime",
    "Explanation": "runtime",
    "OnnxplainError": "contract",
    "export_model": "export",
    "load_backbone": "export",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in _PACKAGES:
        return getattr(import_module(f".{_PACKAGES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
