"""Fused graph -> artifact: load a backbone, export it, compare what was written with the original (needs torch)."""

from .artifact import export_model
from .backbones import HOW_TO_GET_CLASSES, Backbone, load_backbone
from .heads import POOLINGS, Head, read_head, write_head
from .models import MODELS, SOURCES, Row
from .report import Check, GateError, Report

__all__ = [
    "HOW_TO_GET_CLASSES",
    "MODELS",
    "POOLINGS",
    "SOURCES",
    "Backbone",
    "Check",
    "GateError",
    "Head",
    "Report",
    "Row",
    "export_model",
    "load_backbone",
    "read_head",
    "write_head",
]
