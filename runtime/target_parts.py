"""Runs for many targets, in parts: what a run holds for its targets does not grow with their number."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import ALWAYS, PASSES, output_of

from .backends.base import Artifact
from .batch_size import RUN_BYTES, held

MOST_TARGETS = 10  # of a run: what they share, the forward pass above all, is a fifteenth of the time of so many
LIVE = 14  # how often a backward pass holds what a target has of a hidden layer and of attention: 60 MB of a ViT-B/16


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
    backward = [name for name in names if _is_backward(artifact.metadata, name)]
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


def targets_per_run(metadata: Metadata, images: int, outputs: Iterable[str]) -> int:
    """The number of targets for which one run computes these outputs without holding much more than `RUN_BYTES`."""
    tokens = metadata.layout.tokens
    passing = LIVE * (tokens * metadata.hidden_width + metadata.heads * tokens**2)
    results = sum(math.prod(metadata.shape(output_of(name))) for name in held(metadata, outputs))
    return max(1, min(MOST_TARGETS, RUN_BYTES // (4 * max(1, images) * (passing + results))))


def _is_backward(metadata: Metadata, name: str) -> bool:
    """Whether an output, or what the graph makes it of, takes backward passes from the targets."""
    return any(item.per_target and item != PASSES["reciprocam"] for item in map(output_of, held(metadata, [name])))
