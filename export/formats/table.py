"""The formats that export writes, as data: one row each, for each row of the contract's table."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from onnxplain.contract.formats import FORMATS, format_of
from onnxplain.lrp_graph import FusedGraph
from onnxplain.runtime.backends.base import Artifact
from onnxplain.runtime.backends.onnx import OnnxArtifact
from onnxplain.runtime.backends.torchscript import TorchScriptArtifact

from ..verify.op_by_op import OnnxOpByOp, ScriptOpByOp
from .onnx_file import onnx_model, save_onnx
from .torchscript_file import save_torchscript, torchscript_model


class OpByOp(Protocol):
    """A file that was written, to be run op by op in float64, or float32 where that is asked for."""

    def run(self, pixels: Tensor, target: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Compute some outputs.

        Args:
            pixels: [batch, 3, H, W], in the dtype to compute in.
            target: int64 [batch, targets].
            names: Of the outputs.

        Returns:
            These outputs by name.
        """


@dataclass(frozen=True)
class Writer:
    """How files of one format are written and read back.

    Attributes:
        translate: Turns a fused graph into a model of the format, for images of (height, width), an ONNX opset, which
            formats without one ignore, one of FLAGS, of which other formats than ONNX have "optional" alone, and one of
            PRECISIONS, of which they have float32 alone.
        save: Writes that model, the JSON document of the metadata and the digest to a path.
        open_frugally: Opens a file as the runtime does, but without further copies of its weights, for the gate.
        open_op_by_op: Opens a file to be run op by op, also in float64, for the gate.
    """

    translate: Callable[[FusedGraph, tuple[int, int], int, str, str], Any]
    save: Callable[[Any, str, Path], None]
    open_frugally: Callable[[Path], Artifact]
    open_op_by_op: Callable[[Path], OpByOp]


WRITERS: dict[str, Writer] = {
    "onnx": Writer(onnx_model, save_onnx, lambda path: OnnxArtifact(path, "cpu", None, frugal=True), OnnxOpByOp),
    "torchscript": Writer(
        lambda graph, size, opset, flags, precision: torchscript_model(graph, size),
        save_torchscript,
        lambda path: TorchScriptArtifact(path, "cpu", None, trust=True),
        ScriptOpByOp,
    ),
}
"""By the format's name."""
assert WRITERS.keys() == FORMATS.keys(), WRITERS.keys() ^ FORMATS.keys()


def open_frugally(path: Path) -> Artifact:
    """The artifact at `path`, without further copies of its weights."""
    return WRITERS[format_of(path)].open_frugally(path)


def open_op_by_op(path: Path) -> OpByOp:
    """The artifact at `path`, to be run op by op."""
    return WRITERS[format_of(path)].open_op_by_op(path)
