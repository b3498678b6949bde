"""An artifact with weights in other files is refused before onnxruntime sees it, wherever in the file these stand."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from onnxplain.runtime import Explainer, OnnxplainError
from onnxplain.runtime.backends import external as module
from onnxplain.runtime.backends.external import FIELDS, refuse_external_data
from tests.helpers import tiny_artifact

PLACES = ["../../../etc/passwd", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "weights"]


@pytest.fixture
def artifact(tmp_path):
    return tiny_artifact.build(tmp_path / "x.onnx", passes=("attention",))


def _external(location=PLACES[0], size=16, name="elsewhere"):
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _constant(tensor):
    return helper.make_node("Constant", [], ["other"], value=tensor)


def _branch(tensor, inside):
    nodes = [_constant(tensor)] if inside else [helper.make_node("Identity", [tensor.name], ["other"])]
    result = helper.make_tensor_value_info("other", TensorProto.UINT8, [16])
    return helper.make_graph(nodes, "branch", [], [result], [] if inside else [tensor])


def _choice(tensor, inside=False):
    branches = {name: _branch(tensor, inside) for name in ("then_branch", "else_branch")}
    return helper.make_node("If", ["with_attention"], ["chosen"], **branches)


def _nested(tensor):
    result = helper.make_tensor_value_info("chosen", TensorProto.UINT8, [16])
    graph = helper.make_graph([_choice(tensor)], "outer", [], [result])
    return helper.make_node("If", ["with_attention"], ["outer"], then_branch=graph, else_branch=graph)


def _function(tensor):
    return helper.make_function("own", "F", [], ["other"], [_constant(tensor)], [helper.make_opsetid("", 18)])


def _sparse(tensor):
    indices = numpy_helper.from_array(np.arange(16), "indices")
    return helper.make_sparse_tensor(tensor, indices, [32])


WAYS = {
    "weight": lambda model, tensor: model.graph.initializer.append(tensor),
    "sparse weight": lambda model, tensor: model.graph.sparse_initializer.append(_sparse(tensor)),
    "constant": lambda model, tensor: model.graph.node.append(_constant(tensor)),
    "weight of a branch": lambda model, tensor: model.graph.node.append(_choice(tensor)),
    "constant of a branch": lambda model, tensor: model.graph.node.append(_choice(tensor, inside=True)),
    "branch of a branch": lambda model, tensor: model.graph.node.append(_nested(tensor)),
    "constant of a function": lambda model, tensor: model.functions.append(_function(tensor)),
    "graph of the training": lambda model, tensor: model.training_info.add().algorithm.initializer.append(tensor),
}


def _refused(path, **options):
    with pytest.raises(OnnxplainError, match=r"x\.onnx has weights in other files, .*: export it again") as caught:
        Explainer(path, "cpu", 1, **options)
    assert "\n" not in str(caught.value) and "not an ONNX file" not in str(caught.value)


@pytest.mark.parametrize("location", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_refused_before_onnxruntime_sees_it(way, location, artifact, monkeypatch):
    model = onnx.load(artifact)
    WAYS[way](model, _external(location))
    tiny_artifact.save(model, artifact)
    seen = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *given, **options: seen.append(given))
    _refused(artifact)
    _refused(artifact, cache=True)
    assert not seen
    assert [item.name for item in artifact.parent.iterdir()] == ["x.onnx"]


def test_the_fields_are_those_of_onnx():
    """Every field of onnx.proto by which a tensor, and with it the name of a file, can be reached."""
    found, waiting = {}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in found:
            inner = {field.number: field.message_type for field in message.fields if field.message_type is not None}
            found[message.name] = {number: each.name for number, each in inner.items()}
            waiting += inner.values()
    reaching = {"TensorProto"}
    for _ in found:
        reaching |= {name for name, inner in found.items() if reaching & set(inner.values())}
    expected = {
        name: {number: each for number, each in found[name].items() if each in reaching}
        for name in reaching - {"TensorProto"}
    }
    [number] = [field.number for field in TensorProto.DESCRIPTOR.fields if field.name == "external_data"]
    assert {**expected, "TensorProto": {number: module.ENTRY}} == FIELDS


def _padded(number, content):
    """A field of bytes whose numbers take more bytes than they need, which protobuf accepts."""
    size = len(content)
    return bytes([number << 3 | 2 | 0x80, 0x80, 0, size & 0x7F | 0x80, size >> 7 | 0x80, 0x80, 0]) + content


def _second_graph():
    """A graph as a field of the model, which protobuf joins with the graph before it."""
    entry = _padded(1, b"location") + _padded(2, b"../../../etc/passwd")
    return _padded(7, _padded(5, bytes([8, 1, 16, 2, 0x70, 1, 0x42, 1]) + b"w" + _padded(13, entry)))


def test_numbers_that_are_longer_than_they_need_be(artifact):
    with artifact.open("ab") as file:
        file.write(_second_graph())
    tiny_artifact.seal(artifact)
    assert uses_external_data(onnx.load(artifact, load_external_data=False).graph.initializer[-1])
    _refused(artifact)


def test_numbers_of_fields_that_are_too_large(artifact):
    """Some programs take the lower 32 bits of a field's number, so that this would be the graph for them."""
    with artifact.open("ab") as file:
        file.write(bytes([7 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, 0x10]) + _second_graph()[3:])
    tiny_artifact.seal(artifact)
    with pytest.raises(OnnxplainError, match="not an ONNX file, or it is truncated: a field with the number 5368709"):
        Explainer(artifact, "cpu", 1)


@pytest.mark.parametrize("size", [100, module.SHORT, 2 * module.SHORT])
def test_the_word_alone_is_no_reason(size, artifact):
    """As a weight's name, in its content, as a label, and beside weights too large to be searched."""
    model = onnx.load(artifact)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.uint8), "location"))
    model.graph.initializer.append(TensorProto(name="w", dims=[10], data_type=2, raw_data=b"\n\x08location"))
    model.metadata_props[0].value = model.metadata_props[0].value.replace('"Dog"', '"location"')
    tiny_artifact.save(model, artifact)
    assert "location" in Explainer(artifact, "cpu", 1).metadata.labels
    model.graph.initializer.append(_external())
    tiny_artifact.save(model, artifact)
    _refused(artifact)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"\x3a\x05\x00", b"\x0b", b"\x00\x00", b"\x80", b"\x08" + b"\x80" * 11, b"\x3f", b"\x0d\x00",
     b"\x09" + b"\x00" * 7, b"\xba\x80\x80\x80\x10\x00"],
)  # fmt: skip
def test_what_is_no_protobuf(content, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(content + module.WORD if content else b"")
    with pytest.raises(OnnxplainError, match=r"x\.onnx is not an ONNX file, or it is truncated: ."):
        refuse_external_data(path)


def _tensors(graph):
    """All tensors that onnx.proto can hold below a graph, found with the onnx library."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def test_damaged_files_never_hide_it(tmp_path):
    """Whatever the onnx library still reads as external data is refused: here, bytes at random places are others."""
    rng, path, read = np.random.default_rng(0), tmp_path / "x.onnx", 0
    graph = helper.make_graph([_choice(_external()), _constant(_external("weights"))], "g", [], [], [_external()])
    content = helper.make_model(graph).SerializeToString()
    for _ in range(2000):
        changed = bytearray(content)
        for place in rng.integers(len(changed), size=rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        try:
            model = onnx.load_from_string(bytes(changed))
        except Exception:  # the onnx library cannot read it
            continue
        if any(entry.key == "location" for each in _tensors(model.graph) for entry in each.external_data):
            path.write_bytes(changed)
            with pytest.raises(OnnxplainError):
                refuse_external_data(path)
            read += 1
    assert read > 500


def test_the_suffix_decides_nothing(tmp_path):
    """onnxruntime would take .ort for a format of its own."""
    path = tiny_artifact.build(tmp_path / "x.ort", passes=("attention",))
    plain = Explainer(path, "cpu", 1).metadata
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plain == Explainer(path, "cpu", 1, cache=True).metadata
