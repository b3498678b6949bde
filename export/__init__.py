"""Fused graph -> artifact: load a backbone, export it, compare what was written with the original (needs torch)."""

from onnxplain.models import MODELS, SOURCES, Row

from .artifact import export_model
from .models.backbones import HOW_TO_GET_CLASSES, Backbone, Features, load_backbone, load_features
from .models.checkpoints import CheckpointWarning
from .models.heads import POOLINGS, Head, read_head, write_head
from .probing.image_folder import Split, split_pictures
from .probing.probe import ProbeReport, probe
from .verify.report import Check, GateError, Report

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
