"""A plain artifact run without its heatmaps, which a file that has no flags computes whether they are wanted or not."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime.backends.base import rows_of
from onnxplain.runtime.backends.providers import CPU


def run_without_heatmaps(path: Path, pixels: NDArray[np.float32], targets: Sequence[int]) -> dict[str, NDArray[Any]]:
    """The outputs in ALWAYS, from those nodes of the file that they need.

    Args:
        path: Of a plain artifact without flags.
        pixels: [batch, 3, H, W].
        targets: The same for each image.
    """
    model = ir.load(path)
    kept = [value for value in model.graph.outputs if value.name in ALWAYS]
    model.graph.outputs[:] = kept
    RemoveUnusedNodesPass()(model)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, path.name)
        ir.save(model, part)
        session = onnxruntime.InferenceSession(part, providers=[CPU])
        values = session.run(list(ALWAYS), {"pixels": pixels, "target": rows_of(targets, len(pixels))})
    return dict(zip(ALWAYS, values, strict=True))
