"""The fused graph as an ONNX model: exported, tidied, gated, and saved in one piece."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as tidy
from onnxscript import optimizer

from onnxplain.contract import METADATA_KEY, Preprocessing
from onnxplain.contract.outputs import ALWAYS, HEATMAP, output_of
from onnxplain.contract.precisions import FLOAT32
from onnxplain.lrp_graph import FusedGraph

from ..onnx_passes.copy_square_weights import CopySquareWeightsPass
from ..onnx_passes.forms_for_converters import FormsForConvertersPass
from ..onnx_passes.gate_outputs import GateOutputsPass
from ..onnx_passes.image_input import ImageInputPass
from ..onnx_passes.keep_batch import KeepBatchPass
from ..onnx_passes.matmul_to_gemm import MatMulToGemmPass
from ..onnx_passes.name_values import NameValuesPass
from ..onnx_passes.share_constants import ShareConstantsPass
from ..onnx_passes.simplify import SimplifyPass
from ..onnx_passes.weight_codes import WeightCodesPass
from .onnx_stream import write_onnx
from .program import MODEL
from .sealing import KEY, sealed_onnx
from .translation import to_onnx

OPSET = 20
OPSETS = range(18, 24)
"""What PyTorch's exporter writes."""

SHAPE_ARITHMETIC = 16
"""Entries of the largest constants that the export computes with; larger ones are weights."""


def onnx_model(
    graph: FusedGraph, size: tuple[int, int], opset: int = OPSET, flags: str = "optional", precision: str = FLOAT32
) -> ir.Model:
    """Translate the fused graph.

    Args:
        graph: The fused graph.
        size: (height, width) of the images; their number, and that of the targets, stay open.
        opset: One of OPSETS.
        flags: One of FLAGS.
        precision: One of PRECISIONS.

    Returns:
        The model, each output behind its flag if it has one, weights by their paths in the PyTorch model.
    """
    model = to_onnx(graph, size, opset, precision)
    WeightCodesPass()(model)
    paths = _paths_of_weights(model.graph)
    # What onnxruntime cannot do at load: fold shape arithmetic, merge equal nodes; the weights stay as they are.
    optimizer.fold_constants(model, onnx_shape_inference=False, input_size_limit=SHAPE_ARITHMETIC)
    by_output = {name: output_of(name).flag for name in graph.names if name not in ALWAYS}
    gate = GateOutputsPass(by_output, required=flags == "required")
    by_flags: dict[str, list[ir.passes.PassBase]] = {
        "none": [],
        "optional": [gate],
        "required": [gate, KeepBatchPass()],  # as servers need it
    }
    for step in (
        tidy.IdentityEliminationPass(),
        tidy.CommonSubexpressionEliminationPass(),
        tidy.RemoveUnusedNodesPass(),
        tidy.ShapeInferencePass(),  # the exporter leaves some values without a type, which an If has to know
        SimplifyPass(),
        MatMulToGemmPass(),
        CopySquareWeightsPass(),
        # Symbolic shape inference, which converters run first, wants it
        tidy.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        ShareConstantsPass(kept=paths),
        *by_flags[flags],
        FormsForConvertersPass(),
        tidy.ClearMetadataAndDocStringPass(),  # stack traces with paths of this machine, half of a small file
        NameValuesPass(paths),
    ):
        step(model)
    return model


def take_image_input(model: ir.Model, preprocessing: Preprocessing, relative: Mapping[str, bool]) -> str:
    """Have a plain artifact take images as they are, see ImageInputPass; the weights keep their names.

    Returns:
        The name of the value that the model computes from, in place of the input `pixels`.
    """
    step = ImageInputPass(preprocessing, relative)
    step(model)
    NameValuesPass({name: name for name in model.graph.initializers})(model)
    assert step.prepared is not None and step.prepared.name is not None
    return step.prepared.name


def _paths_of_weights(graph: ir.Graph) -> dict[str, str]:
    """By the name of each weight its path in the model.

    A weight that is read transposed alone is folded to its transpose, which is called as the node was: it has ``.T``
    behind its path. The constants of heatmaps have their names.
    """
    paths = {name: name.removeprefix(MODEL) for name in graph.initializers if name.startswith((MODEL, HEATMAP))}
    transposed = {
        node.outputs[0].name: f"{paths[value.name]}.T"
        for node in graph
        for value in node.inputs[:1]
        if node.op_type == "Transpose" and value is not None and value.name in paths
    }
    return paths | {name: path for name, path in transposed.items() if name}


def save_onnx(model: ir.Model, metadata: str, path: Path) -> None:
    """Write an ONNX model as an artifact.

    Args:
        model: Gets the metadata.
        metadata: The JSON document that the runtime reads.
        path: Of the file; at its end is the digest that the runtime checks.
    """
    model.metadata_props[METADATA_KEY] = metadata
    model.metadata_props.pop(KEY, None)  # of a model that was read from an artifact
    with sealed_onnx(path) as stream:
        write_onnx(model, stream)
