"""What an artifact is: its outputs, metadata and digest, and the errors of those who read or write it.

The names below are imported when they are first used, since the metadata need NumPy and the rest does not.
"""

from typing import TYPE_CHECKING

from .lazy import importer

if TYPE_CHECKING:
    from .errors import CacheWarning, OnnxplainError, OnnxplainWarning
    from .metadata import METADATA_KEY, Metadata
    from .outputs import PASSES, REDUCTIONS
    from .preprocessing import Preprocessing

__all__ = [
    "METADATA_KEY",
    "PASSES",
    "REDUCTIONS",
    "CacheWarning",
    "Metadata",
    "OnnxplainError",
    "OnnxplainWarning",
    "Preprocessing",
]

_MODULES = {
    "METADATA_KEY": ".metadata",
    "PASSES": ".outputs",
    "REDUCTIONS": ".outputs",
    "CacheWarning": ".errors",
    "Metadata": ".metadata",
    "OnnxplainError": ".errors",
    "OnnxplainWarning": ".errors",
    "Preprocessing": ".preprocessing",
}

__getattr__ = importer(__name__, _MODULES)
