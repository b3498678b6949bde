"""A fused graph as one flat program of ATen, with the numbers of images and targets left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from onnxplain.lrp_graph import FusedGraph

MODEL = "model."
"""What stands before the path of a parameter of the model in the program."""

NUMBER = "number_"
"""What the names of tensors begin with that are made of numbers; those of the model are in its graph's ``model``."""

Sizes: TypeAlias = tuple[int, int]
"""The numbers of images and targets."""

EXAMPLE_SIZES: Sizes = (2, 3)
"""The same where PyTorch traces: sizes of 1 would be taken for constants, and equal ones for the same."""

OPEN_SIZES = ({0: Dim("batch")}, {0: Dim("batch"), 1: Dim("targets")})
"""The open axes of images and targets."""


@dataclass(frozen=True)
class Weight:
    """A tensor that a program takes.

    Attributes:
        name: ``model.`` and its path for a parameter of the model.
        tensor: What it is in the fused graph, in the dtype that it is stored in.
        padding: The zeros that are added to it, as PyTorch's pad has them.
    """

    name: str
    tensor: Tensor
    padding: Sequence[int] = ()

    def padded(self) -> Tensor:
        """The tensor as the program takes it; without padding it shares its memory."""
        tensor = self.tensor.detach()
        return nn.functional.pad(tensor, list(self.padding)) if self.padding else tensor


@dataclass(frozen=True)
class FlatProgram:
    """The calls that compute a fused graph.

    Attributes:
        graph: The program; ``meta["val"]`` of each node is a tensor without values, a list of these, or a number.
        pixels: The placeholder of the images.
        target: That of the targets.
        weights: What each other placeholder stands for.
        sizes: The numbers of images and targets that the shapes of the values are for.
        exported: Where the calls could not be recorded, the program that PyTorch found.
    """

    graph: fx.Graph
    pixels: fx.Node
    target: fx.Node
    weights: Mapping[fx.Node, Weight]
    sizes: Sizes
    exported: ExportedProgram | None = None

    @property
    def outputs(self) -> tuple[fx.Node, ...]:
        """What the program returns."""
        (output,) = self.graph.find_nodes(op="output")
        return tuple(output.args[0])


def factors(size: int, sizes: Sizes) -> tuple[int, int, int]:
    """A size as (number, i, j): the number times that of the images to the power i and of the targets to j."""
    powers = [0, 0]
    for place, prime in enumerate(sizes):
        while size and size % prime == 0:
            size //= prime
            powers[place] += 1
    return size, powers[0], powers[1]


def calls_of(program: FlatProgram) -> list[Any]:
    """What two runs have to agree in: the calls, the shapes of their results in terms of open sizes, and numbers."""

    def shape(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [shape(item) for item in value]
        return [factors(size, program.sizes) for size in value.shape] if isinstance(value, Tensor) else None

    def numbers(node: fx.Node) -> bytes:
        """Those that a rule has made a tensor of; the model's weights are the same in both."""
        weight = program.weights.get(node)
        if weight is None or not weight.name.startswith(NUMBER):
            return b""
        return weight.tensor.flatten().view(torch.uint8).numpy().tobytes()

    return [
        (node.op, node.target, str(node.args), str(node.kwargs), shape(node.meta.get("val")), numbers(node))
        for node in program.graph.nodes
    ]


def exported_program(graph: FusedGraph, size: tuple[int, int]) -> FlatProgram:
    """The fused graph as PyTorch finds its program; the arguments are as for `flat_program`."""
    example = torch.zeros(EXAMPLE_SIZES[0], 3, *size), torch.zeros(EXAMPLE_SIZES, dtype=torch.int64)
    program = torch.export.export(graph, example, dynamic_shapes=OPEN_SIZES, strict=False)
    signature = program.graph_signature
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    pixels, target = (nodes[name] for name in signature.user_inputs)
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.constants, **program.state_dict}
    given = {nodes[node]: Weight(name, tensors[name]) for node, name in names.items()}
    return FlatProgram(program.graph, pixels, target, given, EXAMPLE_SIZES, program)
