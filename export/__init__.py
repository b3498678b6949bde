"""Fused graph -> artifact: load a backbone, export it, compare what was written with the original (needs torch)."""

from onnxplain.catalog import LIBRARIES, MODELS, Library, Row

from .artifact import export_model
from .live import explainer_of
from .models.backbones import Backbone, load_backbone, load_features
from .models.checkpoints import CheckpointWarning
from .models.heads import Head, read_head, write_head
from .models.internals.convenience import LibraryWarning
from .models.labels import HOW_TO_GET_CLASSES
from .models.pooling import POOLINGS
from .probing.image_folder import Split, split_images
from .probing.probe import ProbeReport, probe
from .sanity.files import write_sanity
from .sanity.randomisation import randomisation_test
from .sanity.result import SanityResult
from .verify.report import Check, GateError, Report

__all__ = [
    "HOW_TO_GET_CLASSES",
    "LIBRARIES",
    "MODELS",
    "POOLINGS",
    "Backbone",
    "Check",
    "CheckpointWarning",
    "GateError",
    "Head",
    "Library",
    "LibraryWarning",
    "ProbeReport",
    "Report",
    "Row",
    "SanityResult",
    "Split",
    "explainer_of",
    "export_model",
    "load_backbone",
    "load_features",
    "probe",
    "randomisation_test",
    "read_head",
    "split_images",
    "write_head",
    "write_sanity",
]
