"""What the file that was written gives: run as the runtime does, and op by op in the dtype that is asked for."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onnxplain.contract import Metadata, OnnxplainError
from onnxplain.contract.errors import ArtifactError
from onnxplain.contract.outputs import ALWAYS
from onnxplain.contract.precisions import FLOAT64
from onnxplain.runtime.backends.base import Artifact, rows_of

from ..formats.table import open_frugally, open_op_by_op
from .one_line import in_one_line
from .part import open_part
from .samples import Tensors

NOT_COMPUTED = "the file that was written cannot be computed in float64"


class WrittenFile:
    """The file.

    Attributes:
        broken: The outputs that were not finite so far, or not of the shape that their images and classes ask for.
    """

    def __init__(self, path: Path, metadata: Metadata) -> None:
        """Open it.

        Args:
            path: Of the file.
            metadata: What it says about itself.

        Raises:
            OnnxplainError: It cannot be computed op by op.
        """
        self._path, self._metadata = path, metadata
        self.broken: dict[str, None] = {}
        with in_one_line(NOT_COMPUTED):
            self._op_by_op = open_op_by_op(path)

    def open(self) -> Artifact:
        """The file as the runtime opens it.

        Raises:
            OnnxplainError: It cannot be opened, or onnxruntime has no kernel for an op in its precision.
        """
        try:
            return open_frugally(self._path)
        except ArtifactError as error:
            op = re.search(r"Could not find an implementation for (\w+)", str(error))
            if op is None or self._metadata.precision != FLOAT64:
                raise
            message = f"onnxruntime cannot compute {op[1]} in {FLOAT64}; choose another `precision`"
            raise OnnxplainError(message) from error

    def run(self, artifact: Artifact, images: Tensor, targets: Sequence[int], names: Sequence[str]) -> Tensors:
        """These outputs from the open file, for all images and classes as one batch."""
        given = artifact.run(images.numpy(), targets, [name for name in names if name != "logits"])
        self._look_at(given, names, len(images), len(targets))
        return given

    def op_by_op(self, images: Tensor, targets: Sequence[int], names: Sequence[str]) -> Tensors:
        """The same in the dtype of the images, computed op by op."""
        with in_one_line(NOT_COMPUTED):
            tensors = self._op_by_op.run(images, torch.tensor([targets]).expand(len(images), -1), names)
            given = {name: tensor.numpy() for name, tensor in tensors.items()}
        self._look_at(given, names, len(images), len(targets))
        return given

    def count_wrong_ranks(self, artifact: Artifact, images: Tensor) -> int:
        """Compare ``class_index`` of every rank and of a class, for all images, with the order of the file's logits."""
        classes = len(self._metadata.labels)
        targets = [*range(-1, -classes - 1, -1), 0]
        if self._metadata.flags == "none":  # the heatmaps would be computed for all of the ranks
            part = open_part(self._path, ("pixels", "target"), tuple(ALWAYS))
            feeds = {"pixels": images.numpy(), "target": rows_of(targets, len(images))}
            given = dict(zip(ALWAYS, part.run(list(ALWAYS), feeds), strict=True))
        else:
            given = artifact.run(images.numpy(), targets, ())
        order = np.argsort(-given["logits"], axis=1, kind="stable")  # of equal logits the lower index leads
        return int((given["class_index"] != np.pad(order, [(0, 0), (0, 1)])).sum())

    def _look_at(self, given: Tensors, names: Collection[str], images: int, targets: int) -> None:
        """Note which outputs are broken."""
        for name in names:
            shape = self._metadata.full_shape(name, images, targets)
            if given[name].shape != shape or not np.isfinite(given[name]).all():
                self.broken[name] = None
