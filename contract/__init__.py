"""What an artifact is: its outputs, metadata and digest, and the errors of those who read or write it."""

from .errors import CacheWarning, OnnxplainError, OnnxplainWarning
from .metadata import METADATA_KEY, Metadata, Preprocessing
from .outputs import PASSES, REDUCTIONS

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
