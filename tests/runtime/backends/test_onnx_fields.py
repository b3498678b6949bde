"""The numbers of fields, against onnx itself."""

import inspect

import onnx

from onnxplain.runtime.backends import onnx_fields


def test_the_numbers_are_those_of_onnx():
    messages = dict(inspect.getmembers(onnx_fields, inspect.isclass))
    assert {"ModelProto", "GraphProto", "TensorProto"} <= messages.keys()
    assert onnx_fields.TensorProto.EXTERNAL == onnx.TensorProto.EXTERNAL
    for name, message in messages.items():
        known = {field.name.upper(): field.number for field in getattr(onnx, name).DESCRIPTOR.fields}
        numbers = {key: value for key, value in vars(message).items() if key.isupper() and key != "EXTERNAL"}
        assert numbers and numbers == {key: known[key] for key in numbers}
