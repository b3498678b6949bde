"""Plain artifacts: maps as outputs of the graph, by the very functions that the runtime runs on NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from onnxplain.contract import Metadata
from onnxplain.contract.outputs import HEATMAP, output_of
from onnxplain.lrp_graph import Derived, FusedGraph
from onnxplain.runtime.images.geometry import interpolation
from onnxplain.runtime.methods.calls import MethodCall
from onnxplain.runtime.methods.table import METHODS

from .formats.arithmetic import ARITHMETIC

READOUT, ROWS, COLUMNS = "heatmap_readout", "heatmap_rows", "heatmap_columns"
"""The constants: the readout row [N], and the interpolation from patches to pixels, [H, h] and [w, W]."""


def with_heatmaps(graph: FusedGraph, metadata: Metadata) -> FusedGraph:
    """The graph whose outputs, beside those in ALWAYS, are the heatmaps that its metadata name.

    Args:
        graph: With all passes that the methods need.
        metadata: Of the plain artifact.

    Returns:
        A graph with the outputs heatmap_<method> [batch, targets, H, W], over the same weights.
    """
    rows, columns = map(interpolation, metadata.patch_grid, metadata.preprocessing.size)
    constants = {READOUT: metadata.layout.readout_row(), ROWS: rows, COLUMNS: columns.T.copy()}
    calls = [MethodCall(METHODS[name], dict(arguments), name) for name, arguments in metadata.heatmaps.items()]
    return graph.with_derived(
        {HEATMAP + call.method.name: _heatmap(call, metadata) for call in calls},
        {name: torch.tensor(value, dtype=ARITHMETIC[metadata.precision].computed) for name, value in constants.items()},
    )


def _heatmap(call: MethodCall, metadata: Metadata) -> Derived:
    needs = metadata.with_pool(call.outputs)

    def heatmap(outputs: Mapping[str, Tensor], pixels: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
        """[batch, targets, H, W]."""
        given = {name: outputs[name] if output_of(name).per_target else outputs[name].unsqueeze(1) for name in needs}
        found: Tensor = call.map(given, pixels.unsqueeze(1), constants[READOUT], metadata)
        if not call.method.pixel_level:
            found = constants[ROWS] @ found @ constants[COLUMNS]
        return found if call.method.per_target else found.expand(-1, outputs["class_index"].shape[1], -1, -1)

    return Derived(("class_index", *needs), heatmap)
