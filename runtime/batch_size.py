"""How many images and targets one run of the graph takes: `images_per_run` first, and `targets_per_run` of these."""

import math
from collections.abc import Iterable

from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import HEATMAP, PASSES, Output, output_of
from onnxplain.contract.precisions import FLOAT64

from .backends.base import Artifact
from .methods.choice import fixed_parameters
from .methods.table import METHODS

RUN_BYTES = 2**30  # of what a run holds: images of many tokens go one by one
CACHE_BYTES = 5 * 2**20  # of a hidden layer on a CPU: beyond, larger batches take longer for each image, not less
MAX_BATCH = 8
MOST_TARGETS = 10  # of a run: what they share, the forward pass above all, is a fifteenth of the time of so many
LIVE = 14  # how often a backward pass holds what a target has of a hidden layer and of attention: 60 MB of a ViT-B/16


def images_per_run(artifact: Artifact, outputs: Iterable[str], targets: int) -> int:
    """The number of images that one run takes without holding much more than `RUN_BYTES`, from 1 to `MAX_BATCH`.

    As many of the targets as one run takes at most are in it for each image. On a CPU `CACHE_BYTES` count as well.
    """
    metadata, names = artifact.metadata, list(outputs)
    together = max(1, min(targets, MOST_TARGETS))
    shared, of_target = held_bytes(metadata, names)
    fit = RUN_BYTES // max(1, shared + together * of_target)
    if artifact.device == "cpu":
        hidden = _bytes(metadata, metadata.layout.tokens * metadata.hidden_width)
        fit = min(fit, CACHE_BYTES // (hidden * (together if of_target else 1)))
    return max(1, min(MAX_BATCH, fit))


def targets_per_run(metadata: Metadata, images: int, outputs: Iterable[str]) -> int:
    """The number of targets for which one run holds not much more than `RUN_BYTES`, from 1 to `MOST_TARGETS`.

    For as many images as `images_per_run` allows, where these are several, it is that of all targets.
    """
    shared, of_target = held_bytes(metadata, outputs)
    fit = (RUN_BYTES // max(1, images) - shared) // max(1, of_target)
    return max(1, min(MOST_TARGETS, fit))


def held_bytes(metadata: Metadata, outputs: Iterable[str]) -> tuple[int, int]:
    """What a run holds for each image, and for each image and target.

    Counted are the outputs and what the graph holds on the way: for backward passes the attention of all layers, and
    `LIVE` times what each target has in a layer; for reciprocam the tokens of the last block once for every patch.
    """
    wanted = [output_of(name) for name in held(metadata, outputs)]
    tokens = metadata.layout.tokens
    shared = sum(math.prod(metadata.shape(item)) for item in wanted if not item.per_target)
    of_target = sum(math.prod(metadata.shape(item)) for item in wanted if item.per_target)
    if of_target:
        shared += math.prod(metadata.shape(PASSES["attention"]))
    if any(map(_is_backward, wanted)):
        of_target += LIVE * (tokens * metadata.hidden_width + metadata.heads * tokens**2)
    if PASSES["reciprocam"] in wanted:
        shared += math.prod(metadata.patch_grid) * tokens * metadata.token_width
    return _bytes(metadata, shared), _bytes(metadata, of_target)


def _bytes(metadata: Metadata, numbers: int) -> int:
    return numbers * (8 if metadata.precision == FLOAT64 else 4)


def is_backward(metadata: Metadata, name: str) -> bool:
    """Whether an output, or what the graph makes it of, takes backward passes from the targets."""
    return any(_is_backward(output_of(each)) for each in held(metadata, [name]))


def _is_backward(output: Output) -> bool:
    return output.per_target and output != PASSES["reciprocam"]


def held(metadata: Metadata, outputs: Iterable[str]) -> list[str]:
    """The outputs or, in a plain artifact, what the graph makes heatmaps of: of all where it has no flags."""
    names = list(outputs)
    if not metadata.heatmaps:
        return names
    if metadata.flags == "none":
        names = [item.output for item in metadata.outputs]
    methods = [name.removeprefix(HEATMAP) for name in names]
    rows = [METHODS[name] for name in methods if name in METHODS]
    known = [row.bind(fixed_parameters(row.name, metadata))[0] for row in rows]
    return [name for needs in known for name in metadata.with_pool(needs)]
