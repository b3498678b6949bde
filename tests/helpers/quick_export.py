"""Artifacts that are written without being compared with their model, which takes most of the time of an export."""

from pathlib import Path
from typing import Any

from torch import nn

from onnxplain.export import Backbone
from onnxplain.export.artifact import fuse_passes, translate, write
from onnxplain.export.plan import prepare


def export_unchecked(model: Backbone | nn.Module, path: Path, **options: Any) -> Path:
    """Options as of `export_model`."""
    plan = prepare(model, **options)
    write(translate(plan, fuse_passes(plan)[0]), path)
    return path
