"""What float32 can resolve: how far the methods' maps are off those from float64, measured on random images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract import Metadata
from onnxplain.runtime import Method
from onnxplain.runtime.methods.choice import available_methods
from onnxplain.runtime.pipeline import select, token_map

Tensors = Mapping[str, NDArray[Any]]


DOUBTFUL = 1e-3
"""Error of a map from which on it is worth the time to look at more."""


class Resolution:
    """Collects the errors of maps, for the methods of one run with their defaults."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        methods = [item for item in available_methods(metadata.passes) if item.runs is None and item.extra is None]
        self._reads = {item: metadata.with_pool(item.bind(self._arguments(item))[0]) for item in methods}
        self._errors: dict[Method, list[float]] = {item: [] for item in methods}

    @property
    def doubtful(self) -> set[str]:
        """The outputs that methods read whose maps were not exact so far."""
        inexact = [method for method, errors in self._errors.items() if max(errors, default=0) > DOUBTFUL]
        return {name for method in inexact for name in self._reads[method]}

    def add(self, given: Tensors, exact: Tensors, pixels: NDArray[Any]) -> None:
        """One image, [3, H, W], and class: outputs in float32 and in float64, the class axis of length 1."""
        for method, names in self._reads.items():
            if given.keys() >= set(names) <= exact.keys():
                single, double = (self._map(method, tensors, pixels) for tensors in (given, exact))
                self._errors[method].append(_error(single, double, method.relative))

    def worst(self) -> dict[str, float]:
        """By method the greatest error of a map, |float32 - float64| / |float64|, at most 1: nothing is resolved."""
        errors = {method.name: min(1.0, max(errors)) for method, errors in self._errors.items() if errors}
        return {name: float(f"{error:.2g}") for name, error in errors.items()}

    def _arguments(self, method: Method) -> dict[str, Any]:
        return method.arguments({}, self._metadata.layers)

    def _map(self, method: Method, tensors: Tensors, pixels: NDArray[Any]) -> NDArray[np.float64]:
        arguments = self._arguments(method)
        if not method.pixel_level:
            return token_map(method, self._metadata, tensors, 0, arguments)
        names, rest = method.bind(arguments)
        return method.function(*select(tensors, names, 0), pixels=pixels, **rest)


def _error(single: NDArray[np.float64], double: NDArray[np.float64], relative: bool) -> float:
    if relative:
        single, double = single - single.mean(), double - double.mean()
    size, error = np.linalg.norm(double), np.linalg.norm(single - double)
    if error == 0:
        return 0.0
    return float(error / size) if np.isfinite(error) and size > 0 else 1.0
