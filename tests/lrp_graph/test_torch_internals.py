"""What is taken from PyTorch's internals: each does what its docstring says, and no other module uses any."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import Dim

import onnxplain
from onnxplain.lrp_graph.torch_internals import (
    fake_mode_of,
    is_mutable,
    returns_view,
    schema_of,
    size_expression,
    traced_length,
)

aten = torch.ops.aten
ROOT = Path(onnxplain.__file__).parent
PRIVATE = re.compile(
    r"torch(\.\w+)*\.(_\w|fx\.experimental)|\._(schema|overloadname|opname)\b|\]\.fake_mode|\.(expr|hint)\b"
)


@pytest.mark.parametrize("folder", ["lrp_graph", "export/formats"])
def test_internals_are_used_through_one_module(folder: str) -> None:
    lines = [
        f"{path.name}: {line.strip()}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "torch_internals.py"
        for line in path.read_text().splitlines()
        if PRIVATE.search(line)
    ]
    assert not lines


def test_what_ops_do_to_their_arguments() -> None:
    assert is_mutable(aten.relu_.default) and is_mutable(aten.copy_.default)
    assert not is_mutable(aten.relu.default) and not is_mutable(len)
    assert returns_view(aten.transpose.int) and returns_view(aten.select.int)
    assert not returns_view(aten.relu.default) and not returns_view(aten.relu_.default) and not returns_view(len)
    assert [argument.name for argument in schema_of(aten.matmul.default).arguments] == ["self", "other"]


def test_traced_values() -> None:
    shapes = ({0: Dim.DYNAMIC},)
    program = torch.export.export(nn.ReLU(), (torch.zeros(7, 3),), dynamic_shapes=shapes, strict=False)
    (node,) = (node for node in program.graph.nodes if node.op == "call_function")
    value = node.meta["val"]
    assert [traced_length(size) for size in value.shape] == [7, 3]
    assert isinstance(value.shape[0], torch.SymInt), "still open"
    assert size_expression(2 * value.shape[0]) == 2 * size_expression(value.shape[0])
    assert not size_expression(value.shape[0]).is_number
    made = fake_mode_of(value).from_tensor(torch.zeros(2, 5), static_shapes=True)
    assert made.shape == (2, 5) and type(made) is type(value)
