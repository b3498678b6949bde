"""What other tools stumble over is in no file, whatever the model: outputs that are read, types of weights, names."""

from collections import Counter
from collections.abc import Iterator

import onnx
import pytest
from onnx import GraphProto, NodeProto

from tests.helpers.export_cases import LABELS, NAMES, build, preprocessing
from tests.helpers.quick_export import export_unchecked

LONGEST = 60
"""Characters of a name."""


FAST = ("registers",)


@pytest.fixture(
    scope="module", params=[name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """An artifact with all passes, not compared with its model."""
    model = build(request.param)
    path = tmp_path_factory.mktemp("file") / "file.onnx"
    return onnx.load(export_unchecked(model, path, labels=LABELS, preprocessing=preprocessing(model)))


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and its branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _nodes(file: onnx.ModelProto) -> list[NodeProto]:
    return [node for graph in _graphs(file.graph) for node in graph.node]


def test_no_node_reads_an_output(file: onnx.ModelProto) -> None:
    outputs = {value.name for value in file.graph.output}
    assert not [(node.name, name) for node in _nodes(file) for name in node.input if name in outputs]


def test_no_constant_is_without_elements(file: onnx.ModelProto) -> None:
    constants = [attribute for node in _nodes(file) if node.op_type == "Constant" for attribute in node.attribute]
    assert {one.name for one in constants} <= {"value"}  # the one that symbolic shape inference reads
    assert not [one for one in constants if 0 in one.t.dims]
    assert not [weight.name for graph in _graphs(file.graph) for weight in graph.initializer if 0 in weight.dims]


def test_no_type_is_declared_for_a_weight(file: onnx.ModelProto) -> None:
    declared = {info.name for graph in _graphs(file.graph) for info in graph.value_info}
    weights = {weight.name for weight in file.graph.initializer}
    assert declared and not declared & weights


def test_names_are_short_and_of_one_value_or_node(file: onnx.ModelProto) -> None:
    nodes = _nodes(file)
    values = [*(name for node in nodes for name in node.output if name), *(value.name for value in file.graph.input)]
    values += {weight.name for weight in file.graph.initializer}.difference(values)  # a flag is an input as well
    for names in ([node.name for node in nodes], values):
        assert set(Counter(names).values()) == {1} and "" not in names
        assert max(map(len, names)) <= LONGEST


def test_checks_of_onnx(file: onnx.ModelProto) -> None:
    onnx.checker.check_model(file, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(file, check_type=True, strict_mode=True, data_prop=True)
    assert [value.name for value in inferred.graph.output] == [value.name for value in file.graph.output]
