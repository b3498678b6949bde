"""What PyTorch gives for an image and a class: by autograd on the model itself where it can, else by the graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from onnxplain.contract import Metadata
from onnxplain.contract.outputs import HEATMAP
from onnxplain.contract.precisions import INT8
from onnxplain.lrp_graph import FusedGraph
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.lrp_graph.rules.products import FLOAT, TINY, compared
from onnxplain.runtime.images.geometry import resize
from onnxplain.runtime.methods.calls import MethodCall
from onnxplain.runtime.methods.table import METHODS
from onnxplain.runtime.pipeline import map_of

from ..formats.arithmetic import ARITHMETIC
from .autograd_reference import BY_AUTOGRAD, OF_FORWARD, eager_outputs
from .one_line import in_one_line
from .portions import too_large

LEAST = 1e6 * TINY
"""The smallest norm of a product that another is compared with: int8 counts rows of smaller values as 0."""


class Reference:
    """What a file is compared with.

    Attributes:
        unrounded: The graph of which the file's is a rounded one; None where nothing is rounded.
        by_autograd: The outputs that autograd can tell; with products in int8, PyTorch's gradients are not the file's.
        products: Of products in int8, so far: the norm of what rounding changed in each, relative to the exact one's.
    """

    def __init__(self, metadata: Metadata, model: nn.Module, graph: FusedGraph, original: FusedGraph | None) -> None:
        """See ``compare`` in parity.py."""
        self._metadata, self._model, self._graph = metadata, model, graph
        int8 = metadata.precision == INT8
        self.unrounded = graph.with_products(FLOAT) if int8 else original
        self.products: list[float] = []
        if int8:
            self._graph = graph.with_products(compared(self._note))
        self.by_autograd = OF_FORWARD if int8 else BY_AUTOGRAD
        self._recompute = bool(too_large(metadata))  # the values of all layers would be gigabytes
        self._heatmaps = {
            HEATMAP + name: MethodCall(METHODS[name], dict(given), name) for name, given in metadata.heatmaps.items()
        }

    def outputs(
        self, image: Tensor, target: Tensor, names: Collection[str], unrounded: bool = False
    ) -> dict[str, NDArray[Any]]:
        """What PyTorch gives.

        Args:
            image: [1, 3, H, W], in the dtype to compute in.
            target: int64 [1, 1], the class.
            names: Of the outputs.
            unrounded: Without the file's rounding of weights or products.

        Returns:
            By name, without the axis of images.

        Raises:
            OnnxplainError: The model or the graph cannot be run.
        """
        model, graph, by_autograd = self._model, self._graph, self.by_autograd
        if unrounded and self.unrounded is not None:
            model, graph, by_autograd = self.unrounded.model, self.unrounded, BY_AUTOGRAD
        double = image.dtype == torch.float64
        exact_numbers = ARITHMETIC[self._metadata.precision].in_double
        arithmetic = in_double(exact_numbers) if double else nullcontext()
        with in_one_line("the model cannot be run in PyTorch to compare with"), arithmetic:
            calls = {name: call for name, call in self._heatmaps.items() if name in names}
            needs = {need for call in calls.values() for need in self._metadata.with_pool(call.outputs)}
            wanted = (set(names) - calls.keys()) | needs
            outputs = eager_outputs(model, image, target, graph.layout, wanted & by_autograd)
            if wanted - by_autograd:
                with torch.no_grad():
                    outputs |= graph.compute(image, target, wanted - by_autograd, self._recompute)
            given = {name: tensor[0].numpy() for name, tensor in outputs.items()}
            maps = {name: self._heatmap(call, given, image[0].numpy())[None] for name, call in calls.items()}
            return {name: (given | maps)[name] for name in names}

    def asks_autograd(self, name: str) -> bool:
        """Whether autograd has a part in what this output is compared with."""
        call = self._heatmaps.get(name)
        needs = {name} if call is None else self._metadata.with_pool(call.outputs)
        return not self.by_autograd.isdisjoint(needs)

    def _note(self, product: Tensor, exact: Tensor, norm: Tensor) -> None:
        size = max(float(exact.norm()), float(norm), LEAST)
        self.products.append(float((product - exact).norm()) / size)

    def _heatmap(
        self, call: MethodCall, outputs: Mapping[str, NDArray[Any]], pixels: NDArray[Any]
    ) -> NDArray[np.float64]:
        """The map as the runtime computes it of a full artifact's outputs, [H, W]."""
        found = map_of(call, replace(self._metadata, heatmaps={}), outputs, 0, pixels)
        return found if call.method.pixel_level else np.asarray(resize(found, self._metadata.preprocessing.size))
