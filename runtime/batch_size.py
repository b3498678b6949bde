"""How many images one run of the graph takes."""

import math
from collections.abc import Iterable

from onnxplain.contract.metadata import Metadata
from onnxplain.contract.outputs import HEATMAP, PASSES, output_of

from .backends.base import Artifact
from .methods.table import METHODS

RUN_BYTES = 2**30  # of what a run holds: images of many tokens go one by one
CACHE_BYTES = 5 * 2**20  # of a hidden layer on a CPU: beyond, larger batches take longer for each image, not less
MAX_BATCH = 8


def images_per_run(artifact: Artifact, outputs: Iterable[str], targets: int) -> int:
    """The number of images that one run takes without holding much more than `RUN_BYTES`, from 1 to `MAX_BATCH`.

    Counted are the outputs and what the graph holds on the way: for a backward pass the attention of all layers, and
    for reciprocam the tokens of the last block once for every patch. On a CPU `CACHE_BYTES` count as well.
    """
    metadata = artifact.metadata
    wanted = [output_of(name) for name in held(metadata, outputs)]
    numbers = sum(math.prod(metadata.shape(item)) * (targets if item.per_target else 1) for item in wanted)
    hidden = metadata.layout.tokens * metadata.hidden_width
    if any(item.per_target for item in wanted):
        numbers += math.prod(metadata.shape(PASSES["attention"]))
        hidden *= max(1, targets)
    if PASSES["reciprocam"] in wanted:
        numbers += math.prod(metadata.patch_grid) * metadata.layout.tokens * metadata.token_width
    fit = RUN_BYTES // (4 * max(1, numbers))
    if artifact.device == "cpu":
        fit = min(fit, CACHE_BYTES // (4 * hidden))
    return max(1, min(MAX_BATCH, fit))


def held(metadata: Metadata, outputs: Iterable[str]) -> list[str]:
    """The outputs or, in a plain artifact, what the graph makes heatmaps of: of all where it has no flags."""
    names = list(outputs)
    if not metadata.heatmaps:
        return names
    if metadata.flags == "none":
        names = [item.output for item in metadata.outputs]
    methods = [name.removeprefix(HEATMAP) for name in names]
    known = [METHODS[name].bind(metadata.heatmaps[name])[0] for name in methods if name in METHODS]
    return [name for needs in known for name in metadata.with_pool(needs)]
