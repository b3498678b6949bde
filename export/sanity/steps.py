"""The weights of a model in steps, from the head down, and random ones in their place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from onnxplain.lrp_graph import FusedGraph

HEAD, REST = "head", "embedding"


@dataclass(frozen=True)
class Step:
    """Parameters that become random together.

    Attributes:
        name: "head", the path of a block in the model, or "embedding".
        parameters: Their paths in the model, each parameter under one of its names.
    """

    name: str
    parameters: tuple[str, ...]


def steps_of(graph: FusedGraph) -> tuple[Step, ...]:
    """The parameters that the logits depend on, in steps from the output to the input.

    First the head: what is used after the attention of the last layer only, and belongs to no block. Then the blocks,
    the last one first. Then all others, such as the embedding of the patches and what several blocks share.
    """
    model = graph.model
    places: defaultdict[int, set[int]] = defaultdict(set)  # of one parameter there may be several names
    for path, found in graph.weight_uses.items():
        places[id(_tensor(model, path))] |= found
    used = {path: places[id(tensor)] for path, tensor in model.named_parameters() if id(tensor) in places}
    blocks = sorted(_blocks(model, used), key=lambda block: -max(max(used[path]) for path in block.parameters))
    in_blocks = {path for block in blocks for path in block.parameters}
    rest = [path for path in used if path not in in_blocks]
    head = tuple(path for path in rest if min(used[path]) >= graph.layers)
    others = tuple(path for path in rest if path not in head)
    return tuple(step for step in (Step(HEAD, head), *blocks, Step(REST, others)) if step.parameters)


def randomise(model: nn.Module, paths: Sequence[str], generator: torch.Generator) -> None:
    """Replace each of these parameters by draws from the normal distribution with its own mean and deviation.

    So each keeps its scale, whatever its module is, and nothing of what it has learnt beyond that; one of a single
    number stays. They are drawn in the order of ``paths``, in float32 on the CPU, so that a seed means the same
    everywhere.
    """
    with torch.no_grad():
        for path in paths:
            parameter = model.get_parameter(path)
            values = parameter.float()
            deviation = values.std(correction=0).cpu()
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values.mean().cpu() + deviation * noise)


def _blocks(model: nn.Module, used: Mapping[str, set[int]]) -> list[Step]:
    """The children with attention of the module that has most of them; of several such modules the outermost."""
    found: list[Step] = []
    for name, module in model.named_modules():
        blocks = []
        for child, _ in module.named_children():
            path = f"{name}.{child}" if name else child
            own = tuple(each for each in used if each.startswith(f"{path}."))
            if len(set().union(*(used[each] for each in own))) > 1:  # some are used before attention, some after it
                blocks.append(Step(path, own))
        if len(blocks) > len(found):
            found = blocks
    return found


def _tensor(model: nn.Module, path: str) -> torch.Tensor:
    """A parameter or buffer."""
    owner, _, name = path.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(owner), name)
    return tensor
