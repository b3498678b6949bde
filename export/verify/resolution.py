"""What float32 can resolve: how far the methods' maps are off those from float64, measured on random images."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract import Metadata
from onnxplain.runtime.methods.calls import MethodCall
from onnxplain.runtime.methods.choice import available_methods, call_method
from onnxplain.runtime.pipeline import map_of

Tensors = Mapping[str, NDArray[Any]]


DOUBTFUL = 1e-3
"""Error of a map from which on it is worth the time to look at more."""


class Resolution:
    """Collects the errors of maps, for the methods of one run with their defaults."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        methods = [item for item in available_methods(metadata) if item.in_graph]
        self._calls = [call_method(item.name, {}, metadata) for item in methods]
        self._errors: dict[str, list[float]] = {item.name: [] for item in methods}

    @property
    def doubtful(self) -> set[str]:
        """The outputs that methods read whose maps were not exact so far."""
        inexact = [call for call in self._calls if max(self._errors[call.method.name], default=0) > DOUBTFUL]
        return {name for call in inexact for name in self._reads(call)}

    def read_with(self, names: Collection[str]) -> set[str]:
        """These outputs, and all that is read by a method which reads one of them."""
        reads = [set(self._reads(call)) for call in self._calls]
        return set(names).union(*(one for one in reads if not one.isdisjoint(names)))

    def add(self, given: Tensors, exact: Tensors, pixels: NDArray[Any]) -> None:
        """One image, [3, H, W], and class: outputs in float32 and in float64, the class axis of length 1."""
        for call in self._calls:
            if given.keys() >= set(self._reads(call)) <= exact.keys():
                single, double = (map_of(call, self._metadata, tensors, 0, pixels) for tensors in (given, exact))
                self._errors[call.method.name].append(_error(single, double, call.method.relative))

    def worst(self) -> dict[str, float]:
        """By method the greatest error of a map, |float32 - float64| / |float64|, at most 1: nothing is resolved."""
        errors = {name: min(1.0, max(errors)) for name, errors in self._errors.items() if errors}
        return {name: float(f"{error:.2g}") for name, error in errors.items()}

    def _reads(self, call: MethodCall) -> tuple[str, ...]:
        return self._metadata.with_pool(call.outputs)


def _error(single: NDArray[np.float64], double: NDArray[np.float64], relative: bool) -> float:
    if relative:
        single, double = single - single.mean(), double - double.mean()
    size, error = np.linalg.norm(double), np.linalg.norm(single - double)
    if error == 0:
        return 0.0
    return float(error / size) if np.isfinite(error) and size > 0 else 1.0
