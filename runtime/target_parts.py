"""Runs for many targets, in parts: what a run holds for its targets does not grow with their number."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.outputs import ALWAYS, output_of

from .backends.base import Artifact
from .batch_size import is_backward, targets_per_run


def run_in_parts(
    artifact: Artifact, inputs: NDArray[Any], targets: Sequence[int], outputs: Iterable[str]
) -> dict[str, NDArray[Any]]:
    """As `artifact.run`, in several runs where one would hold too much; the same to the rounding of matrix products.

    Each part takes backward passes for some of the targets. What does not depend on them, or is computed for all
    classes at once, has a run of its own.
    """
    names = list(dict.fromkeys(outputs))
    if len(targets) <= 1:
        return artifact.run(inputs, targets, names)
    backward = [name for name in names if is_backward(artifact.metadata, name)]
    count = math.ceil(len(targets) / targets_per_run(artifact.metadata, len(inputs), backward)) if backward else 1
    if count <= 1:
        return artifact.run(inputs, targets, names)
    forward = [name for name in names if name not in backward]
    values = artifact.run(inputs, targets, forward) if forward else {}
    for part in np.array_split(np.arange(len(targets)), count):
        for name, value in artifact.run(inputs, [targets[index] for index in part], backward).items():
            if name == "class_index" or (name not in ALWAYS and output_of(name).per_target):
                whole = values.setdefault(name, np.empty((len(value), len(targets), *value.shape[2:]), value.dtype))
                whole[:, part] = value
            else:
                values.setdefault(name, value)
    return {name: values[name] for name in (*ALWAYS, *names)}
