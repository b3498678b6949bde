"""Fused graph -> artifact: load a backbone, export it, compare what was written with the original (needs torch)."""

from .artifact import export_model
from .backbones import MODELS, Backbone, Row, load_backbone
from .report import Check, GateError, Report

__all__ = ["MODELS", "Backbone", "Check", "GateError", "Report", "Row", "export_model", "load_backbone"]
