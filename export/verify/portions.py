"""What the gate has the file compute at once: which outputs, for how many images and classes, in which precision.

float64 takes long, so the file runs in it for one image and class, and in float32 for several of both at once: there
it shows whether an image feels its neighbours, or a class takes what is another's, and whether a gradient was baked in
as a constant. But float32 shows nothing of relevance, which divides by sums near zero: that runs in float64 for several
of both, and in float32 for one image as well, so that it is not bound to several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from onnxplain.contract import Metadata
from onnxplain.contract.outputs import ALWAYS, HEATMAP, MATRICES, PASSES, Output, output_of
from onnxplain.runtime.methods.table import METHODS

from .autograd_reference import OF_FORWARD
from .limits import DIVIDING

IMAGES = 2
TARGETS = 2
MAX_RAW = 2**28
"""Bytes of a raw tensor of one image and class above which it is not taken out of the graph, only its reductions."""
MAX_AT_ONCE = 5 * 2**26
"""Of files with such tensors, bytes of outputs that are compared at once; the file is run for one image and class."""
MAX_THREE = 2**22
"""The same, up to which the file runs for three classes at once: so it is seen not to be bound to as many as images."""
MAX_COPIES, MAX_COPIES_IN_DOUBLE = 2**22, 2**26
"""Bytes of an image's copies, in float32, above which reciprocam is compared for one image only; and above which it is
compared in float32 first, op by op: onnxruntime, and float64, would take several times as much."""
COPIES = {"reciprocam", f"{HEATMAP}vit_reciprocam"}
"""The outputs that make these copies."""

GROUPS = (
    ("attention", "gradient", "pixel_gradient"),
    DIVIDING,
    ("layer_gradient", "pixel_attnlrp", "pixel_cp_lrp", "reciprocam", "features"),
)
"""The passes that run at once: so they need about the same memory."""


class Batch(NamedTuple):
    """Images, by their numbers, and the classes that are asked for each of them."""

    images: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many images and classes it has, multiplied."""
        return len(self.images) * len(self.targets)


NONE = Batch((), ())


@dataclass(frozen=True)
class Portion:
    """Outputs that are computed at once.

    Attributes:
        names: Of the outputs.
        single: For what the file runs in float32.
        double: For what it runs in float64 in any case; of the other images only what differs in float32.
        part: In float64, what is of the same part and batch is computed at once.
        op_by_op: Whether it runs op by op also where it is compared as it computes, and not in onnxruntime.
    """

    names: Sequence[str]
    single: Batch
    double: Batch
    part: str = ""
    op_by_op: bool = False


def too_large(metadata: Metadata) -> list[Output]:
    """The outputs that are not taken out of the graph."""
    return [item for item in _raw(metadata) if size_in_bytes(metadata, item) > MAX_RAW]


def size_in_bytes(metadata: Metadata, item: Output) -> int:
    """Of an output for one image and class, in float32."""
    return 4 * math.prod(metadata.shape(item))


def notes(metadata: Metadata) -> tuple[str, ...]:
    """What the report says of the outputs that are not taken out of the graph."""
    large = too_large(metadata)
    if not large:
        return ()
    names, size = ", ".join(item.output for item in large), size_in_bytes(metadata, large[0]) / 2**20
    return (
        f"{names}: too large to compare, {size:.0f} MiB for each image and class; their reductions were compared, the "
        "file run for one image at a time",
    )


def portions(
    metadata: Metadata, targets: tuple[int, ...], asked: Mapping[int, int], masked_bytes: int
) -> list[list[Portion]]:
    """Everything that is compared.

    Args:
        metadata: Of the file.
        targets: The classes.
        asked: By image the one for which PyTorch is run.
        masked_bytes: What the copies of an image take that reciprocam makes.

    Returns:
        In lists: the file is opened once for each.
    """
    large = too_large(metadata)
    groups = _groups(metadata, [item.output for item in metadata.outputs if item not in large])
    pairs = {image: Batch((image,), (target,)) for image, target in asked.items()}
    if large:  # one image and its class at a time
        return [
            [Portion(part, pair, pair if divides or image == 0 else NONE)]
            for names, divides in groups
            for part in _parts(metadata, names)
            for image, pair in pairs.items()
        ]
    raw = max(size_in_bytes(metadata, item) for item in _raw(metadata))
    several = (*targets, targets[0]) if raw <= MAX_THREE else targets
    images = tuple(asked)
    alone = COPIES if masked_bytes > MAX_COPIES else set()
    together = [
        Portion(names, Batch(images, targets[:1]), Batch(images, targets))
        if divides
        else Portion(names, Batch(images, several), pairs[0])
        for group, divides in groups
        if (names := [name for name in group if name not in alone])
    ]
    many = masked_bytes > MAX_COPIES_IN_DOUBLE
    copies = [name for group, _ in groups for name in group if name in alone]
    return [
        [*together, *(Portion([name], Batch((0,), targets), NONE if many else pairs[0], name, many) for name in copies)]
    ]


def _parts(metadata: Metadata, names: Sequence[str]) -> list[list[str]]:
    """These outputs in parts of at most MAX_AT_ONCE bytes: first logits and what is of attention alone.

    For these PyTorch needs no backward pass.
    """
    parts: list[list[str]] = []
    for some in ([name for name in names if (name in OF_FORWARD) == forward] for forward in (True, False)):
        room = -1
        for name in some:
            size = 0 if name in ALWAYS else size_in_bytes(metadata, output_of(name))
            if size > room:
                parts.append([])
                room = MAX_AT_ONCE
            parts[-1].append(name)
            room -= size
    return parts


def _raw(metadata: Metadata) -> list[Output]:
    return [PASSES[name] for name in metadata.passes if PASSES[name].axes == MATRICES]


def _groups(metadata: Metadata, names: Sequence[str]) -> list[tuple[list[str], bool]]:
    """These outputs in GROUPS, the logits in the first; and whether they are of passes that divide."""
    members: dict[tuple[str, ...], list[str]] = {group: [] for group in GROUPS}
    for name in names:
        members[_group(name)].append(name)
    groups = [(group, passes == DIVIDING) for passes, group in members.items() if group]
    groups[0][0].insert(0, "logits")
    return groups


def _group(name: str) -> tuple[str, ...]:
    """The one of an output: DIVIDING if one of its passes does, else that of the last."""
    of_map = name.startswith(HEATMAP)
    passes = METHODS[name.removeprefix(HEATMAP)].passes if of_map else output_of(name).passes
    if not set(DIVIDING).isdisjoint(passes):
        return DIVIDING
    (group,) = (group for group in GROUPS if passes[-1] in group)
    return group
