"""Nodes in the order of another model: that of the artifact, in the cache as well."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxplain.runtime import Explainer
from onnxplain.runtime.backends.node_order import in_order_of
from tests.helpers import tiny_artifact


def _places(model):
    """The place of the node that gives each value, among the nodes of its graph, for the graph and its branches."""
    found, waiting = {}, [model.graph]
    while waiting:
        graph = waiting.pop()
        found |= {name: place for place, node in enumerate(graph.node) for name in node.output}
        waiting += [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return found


def _graph(rng, name, known, depth):
    """Random sums of values that are there before, and choices between such graphs; in the order of their making."""
    nodes, outputs = [], []
    for index in range(rng.integers(3, 9)):
        result = f"{name}_{index}"
        if depth and rng.random() < 0.3:
            branches = {
                key: _graph(rng, f"{result}_{key[:4]}", known, depth - 1) for key in ("then_branch", "else_branch")
            }
            nodes.append(helper.make_node("If", ["flag"], [result], **branches))
        else:
            nodes.append(
                helper.make_node("Add", [known[place] for place in rng.integers(len(known), size=2)], [result])
            )
        known, outputs = [*known, result], [result]
    info = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1]) for output in outputs]
    return helper.make_graph(nodes, name, [], info)


def _shuffle(graph, rng):
    """Another order in which each node follows those that it reads from, of the nodes of a graph and its branches."""
    nodes, given = list(graph.node), {name for node in graph.node for name in node.output}
    for node in nodes:
        for attribute in node.attribute:
            _shuffle(attribute.g, rng)
    del graph.node[:]
    while nodes:
        ready = [node for node in nodes if not given & _read(node)]
        graph.node.append(ready[rng.integers(len(ready))])
        given -= set(graph.node[-1].output)
        nodes = [node for node in nodes if node.output != graph.node[-1].output]


def _read(node):
    inner = [each for attribute in node.attribute for each in attribute.g.node]
    return set(node.input).union(*map(_read, inner))


@pytest.mark.parametrize("seed", range(20))
def test_the_nodes_of_a_graph_and_its_branches_get_their_order_back(seed):
    rng = np.random.default_rng(seed)
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    graph = _graph(rng, "g", ["x"], 2)
    graph.input.extend(inputs)
    original = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(original)
    shuffled = onnx.ModelProto.FromString(original.SerializeToString())
    _shuffle(shuffled.graph, rng)
    content = in_order_of(shuffled.SerializeToString(), original.SerializeToString())
    assert onnx.load_from_string(content) == original


def test_what_is_new_comes_before_what_needs_it():
    def model(*rows):
        nodes = [helper.make_node("Add", inputs.split(), [output]) for output, inputs in rows]
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xd"]
        return helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]))

    original = model(("a", "x x"), ("b", "a a"), ("c", "x b"), ("d", "b c"))
    # b is made of new1, which is made of new2; d no longer of c but of a, which is given by a node that came after it
    made = model(("new2", "x x"), ("c", "x x"), ("new1", "new2 x"), ("b", "new1 c"), ("a", "b b"), ("d", "a b"))
    ordered = onnx.load_from_string(in_order_of(made.SerializeToString(), original.SerializeToString()))
    assert [node.output[0] for node in ordered.graph.node] == ["new2", "new1", "c", "b", "a", "d"]


def test_a_cache_has_the_order_of_the_artifact(tmp_path):
    path = tiny_artifact.build(tmp_path / "tiny.onnx")
    Explainer(path, "cpu", 1, cache=True)
    [file] = (tmp_path / "tiny.onnx.cache").rglob("graph.onnx")
    kept, places = onnx.load(file), _places(onnx.load(path))
    graphs = [kept.graph, *(attribute.g for node in kept.graph.node for attribute in node.attribute)]
    compared = 0
    for graph in graphs:
        found = [places[name] for node in graph.node for name in node.output if name in places]
        assert found == sorted(found)
        compared += len(found)
    assert compared > 50
