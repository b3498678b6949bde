"""Fused graph -> artifact: load a backbone, export it, compare what was written with the original (needs torch)."""

from ..models import MODELS, SOURCES, Row
from .artifact import export_model
from .backbones import HOW_TO_GET_CLASSES, Backbone, Features, load_backbone, load_features
from .checkpoints import CheckpointWarning
from .heads import POOLINGS, Head, read_head, write_head
from .pictures import Split, split_pictures
from .probe import ProbeReport, probe
from .report import Check, GateError, Report

__all__ = [
    "HOW_TO_GET_CLASSES",
    "MODELS",
    "POOLINGS",
    "SOURCES",
    "Backbone",
    "Check",
    "CheckpointWarning",
    "Features",
    "GateError",
    "Head",
    "ProbeReport",
    "Report",
    "Row",
    "Split",
    "export_model",
    "load_backbone",
    "load_features",
    "probe",
    "read_head",
    "split_pictures",
    "write_head",
]
