"""Type promotion without PyTorch's pass for it: what is promoted, and that PyTorch still does so where it has to."""

import pytest
import torch
from torch import fx
from torch.onnx._internal.fx import passes

from onnxplain.export.formats.distinct_calls import DistinctCalls
from onnxplain.export.formats.promotion import EXACT, may_promote, with_floats
from onnxplain.export.formats.recording import flat_program
from onnxplain.lrp_graph import fuse
from tests.helpers.export_cases import NAMES, build, preprocessing

aten = torch.ops.aten
FLOATS = torch.float32, torch.float64
FLOAT, DOUBLE, WHOLE, BOOL = (torch.zeros(2, 3, dtype=dtype) for dtype in (*FLOATS, torch.int64, torch.bool))

ALONE = [
    (aten.mul.Tensor, (FLOAT, 2), (FLOAT, 2.0)),
    (aten.sub.Tensor, (1, FLOAT), (1.0, FLOAT)),
    (aten.eq.Scalar, (FLOAT, 0), (FLOAT, 0.0)),
    (aten.clamp.default, (FLOAT, None, 6), (FLOAT, None, 6.0)),
    (aten.where.ScalarSelf, (BOOL, 1, FLOAT), (BOOL, 1.0, FLOAT)),
    (aten.where.self, (BOOL, FLOAT, FLOAT), (BOOL, FLOAT, FLOAT)),
    (aten.mul.Tensor, (DOUBLE, 0.5), (DOUBLE, 0.5)),
    (aten.mul.Tensor, (WHOLE, 2), (WHOLE, 2)),
    (aten.eq.Scalar, (WHOLE, 0), (WHOLE, 0)),
    (aten.select.int, (FLOAT, 1, 0), (FLOAT, 1, 0)),
    (aten.sum.dim_IntList, (FLOAT, [1]), (FLOAT, [1])),
    (aten.gather.default, (FLOAT, 1, WHOLE), (FLOAT, 1, WHOLE)),
    (aten.add.Tensor, (FLOAT, FLOAT), (FLOAT, FLOAT)),
    (aten.gt.Tensor, (FLOAT, FLOAT), (FLOAT, FLOAT)),
    (aten.cat.default, ([FLOAT, FLOAT], 1), ([FLOAT, FLOAT], 1)),
]
"""Calls of which nothing is promoted once whole numbers are floats: op, arguments, the same with floats."""

PROMOTED = [
    (aten.mul.Tensor, (FLOAT, BOOL)),
    (aten.add.Tensor, (WHOLE, FLOAT)),
    (aten.add.Tensor, (DOUBLE, FLOAT)),
    (aten.div.Tensor, (WHOLE, WHOLE)),
    (aten.sqrt.default, (WHOLE,)),
    (aten.mul.Tensor, (WHOLE, 0.5)),
    (aten.gt.Scalar, (WHOLE, 0.5)),
    (aten.sum.default, (BOOL,)),
    (aten.cat.default, ([FLOAT, WHOLE], 1)),
    (aten.mul.Tensor, (FLOAT, EXACT + 1)),
    (aten.where.self, (BOOL, FLOAT, WHOLE)),
    (aten.where.self, (BOOL, BOOL, FLOAT)),
    (aten.where.ScalarSelf, (BOOL, 0.5, WHOLE)),
]
"""Calls of which PyTorch promotes something."""


def call(op, args):
    """A node, as the flat program has it."""
    graph = fx.Graph()

    def placed(value):
        if not isinstance(value, torch.Tensor):
            return value
        node = graph.placeholder("given")
        node.meta["val"] = value
        return node

    node = graph.call_function(op, fx.node.map_aggregate(args, placed))
    node.meta["val"] = op(*args)
    return node


@pytest.mark.parametrize(("op", "args", "wanted"), ALONE, ids=[str(op) for op, *_ in ALONE])
def test_whole_numbers_beside_floats_are_floats(op, args, wanted):
    node = call(op, args)
    given = fx.node.map_arg(with_floats(node), lambda arg: arg.meta["val"])
    assert str(given) == str(wanted)
    assert not may_promote(node)


@pytest.mark.parametrize(("op", "args"), PROMOTED, ids=[str(op) for op, _ in PROMOTED])
def test_what_pytorch_promotes_is_known(op, args):
    assert may_promote(call(op, args))


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_has_nothing_to_promote_in_a_fused_graph(name):
    """Its own pass, run over the program that it is not run over, leaves it as it is."""
    model = build(name)
    size = preprocessing(model)["size"]
    calls = DistinctCalls(flat_program(fuse(model, torch.zeros(1, 3, *size)), size))
    assert not calls.may_promote
    before = str(calls.graph)
    passes.InsertTypePromotion(calls.program.graph_module).run()
    assert str(calls.graph) == before
