"""Files are written as protobuf serialises them, without a copy of the weights, and end with their digest."""

import gc
import hashlib
import io
import tracemalloc

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx_ir.tensor_adapters import TorchTensor

from onnxplain.contract import OnnxplainError
from onnxplain.contract.digest import LENGTH, stored_digest
from onnxplain.export.collector import collector_paused
from onnxplain.export.formats import onnx_stream
from onnxplain.export.formats.onnx_file import save_onnx
from onnxplain.export.formats.onnx_stream import LARGE, write_onnx


def _weight(name, tensor):
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)


def _model():
    """Weights of several types and sizes, one that is made when it is written, and one that is an input as well."""
    numbers = np.random.default_rng(0)
    tensors = {
        "large": ir.tensor(numbers.normal(size=(300, 200)).astype(np.float32)),
        "transposed": TorchTensor(torch.randn(200, 300).T),
        "half": TorchTensor(torch.randn(LARGE // 2).bfloat16()),
        "small": ir.tensor(np.arange(5)),
        "later": ir.LazyTensor(
            lambda: TorchTensor(torch.ones(40, 50)), dtype=ir.DataType.FLOAT, shape=ir.Shape([40, 50]), name="later"
        ),
        "empty": ir.tensor(np.zeros((0, 3), np.float32)),
        "flag": ir.tensor(np.array(True)),
    }
    values = {name: _weight(name, tensor) for name, tensor in tensors.items()}
    product = ir.node("MatMul", [values["large"], values["transposed"]], name="product")
    product.outputs[0].name, product.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [values["flag"]], product.outputs, nodes=[product], initializers=values.values(), opset_imports={"": 20}
    )
    graph.name = "g"
    return ir.Model(graph, ir_version=10, producer_name="a test", metadata_props={"key": "value"})


def _serialised(model):
    proto = ir.to_proto(model)
    names = {tensor.name for tensor in proto.graph.initializer}
    for info in [info for info in proto.graph.value_info if info.name in names]:
        proto.graph.value_info.remove(info)
    return proto.SerializeToString()


def test_bytes_are_those_of_protobuf():
    model = _model()
    stream = io.BytesIO()
    write_onnx(model, _Flat(stream))
    assert stream.getvalue() == _serialised(model)


class _Flat:
    """Takes what has bytes in memory, as files do."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, data):
        self.stream.write(np.frombuffer(data, np.uint8).data)


def test_the_model_keeps_its_weights():
    model = _model()
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    write_onnx(model, _Flat(io.BytesIO()))
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before


def test_the_digest_is_of_all_before_it(tmp_path):
    path = tmp_path / "x.onnx"
    save_onnx(_model(), "{}", path)
    content = path.read_bytes()
    assert stored_digest(path) == hashlib.sha256(content[:-LENGTH]).hexdigest()
    assert onnx.load_from_string(content).metadata_props[-1].value == stored_digest(path)


def test_no_copy_of_the_weights(tmp_path):
    weight = ir.tensor(np.ones((1000, 5000), np.float32), name="w")
    copy = ir.node("Identity", [value := _weight("w", TorchTensor(torch.from_numpy(weight.numpy())))], name="copy")
    copy.outputs[0].name, copy.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    model = ir.Model(
        ir.Graph([], copy.outputs, nodes=[copy], initializers=[value], opset_imports={"": 20}, name="g"), ir_version=10
    )
    tracemalloc.start()
    try:
        save_onnx(model, "{}", tmp_path / "x.onnx")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < weight.nbytes / 10


def _of_zeros(*dtypes):
    """A model with a weight of 1 GiB for each dtype; these share their memory."""
    zeros = np.zeros(2**30, np.uint8)
    tensors = {f"w{place}": ir.tensor(zeros.view(dtype)) for place, dtype in enumerate(dtypes)}
    values = [_weight(name, tensor) for name, tensor in tensors.items()]
    copy = ir.node("Identity", values[:1])
    copy.outputs[0].name, copy.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([], copy.outputs, nodes=[copy], initializers=values, opset_imports={"": 20}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        (["<f4"] * 2, r"would have 2.0 GiB, .* 2 GiB at most; export it with `precision='float16'`, which takes half$"),
        (["<f4"] * 4, "would have 4.0 GiB, .*; choose a smaller model$"),
        (["<f2"] * 2, "would have 2.0 GiB, .*; choose a smaller model$"),
    ],
)
def test_files_that_nothing_can_read_are_not_written(dtypes, message):
    """onnxruntime and protobuf open no file from 2 GiB on."""
    with pytest.raises(OnnxplainError, match=message):
        write_onnx(_of_zeros(*dtypes), Nothing())


class Nothing:
    """Takes no bytes."""

    def write(self, data):
        raise AssertionError


def test_the_greatest_file(monkeypatch):
    model, stream = _model(), io.BytesIO()
    size = len(_serialised(model))
    monkeypatch.setattr(onnx_stream, "MAX_BYTES", size)
    write_onnx(model, _Flat(stream))
    assert len(stream.getvalue()) == size
    monkeypatch.setattr(onnx_stream, "MAX_BYTES", size - 1)
    with pytest.raises(OnnxplainError):
        write_onnx(model, Nothing())


def test_the_collector_is_as_it_was():
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
