"""Files in float64: every op against ONNX's own reference implementation, and what PyTorch is asked for there."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxplain.export.formats.table import open_op_by_op
from onnxplain.export.verify.onnx_ops import OPS
from onnxplain.export.verify.op_by_op import OnnxOpByOp, ScriptOpByOp
from onnxplain.lrp_graph.in_double import in_double
from onnxplain.runtime import OnnxplainError

RNG = np.random.default_rng(0)
OPSET = 23


def real(*shape):
    """Numbers around zero."""
    return RNG.normal(size=shape)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape)


def ints(*values):
    return np.array(values, np.int64)


def flags(*shape):
    return RNG.random(shape) < 0.5


X = real(2, 3, 4)
IMAGE = real(2, 4, 7, 6)
KERNEL = {"kernel_shape": [3, 2], "strides": [2, 1]}
UNARY = ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "Neg", "Relu", "Sigmoid"]
UNARY += ["Sign", "Sin", "Softplus", "Tanh"]
BINARY = ["Add", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Sub", "Sum"]
REDUCTIONS = ["ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare"]

# By op: for each case its inputs and its attributes.
CASES = {
    **{op: [([X], {})] for op in UNARY},
    **{op: [([X, real(3, 1)], {}), ([X, X], {})] for op in BINARY},
    **{op: [([X], {}), ([X, ints(-1, 0)], {"keepdims": 0}), ([X, ints(1)], {})] for op in REDUCTIONS},
    "And": [([flags(2, 3), flags(3)], {})],
    "ArgMax": [([X], {"axis": 1, "keepdims": 0}), ([X], {"axis": -1})],
    "ArgMin": [([X], {"axis": 1, "keepdims": 0}), ([X], {"axis": -1})],
    "AveragePool": [
        ([IMAGE], KERNEL),
        ([IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ([IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": 1}),
    ],
    "BatchNormalization": [([IMAGE, real(4), real(4), real(4), positive(4)], {"epsilon": 2**-10})],
    "Cast": [
        ([X], {"to": TensorProto.INT64}),
        ([X], {"to": TensorProto.BOOL}),
        ([ints(1, 2)], {"to": TensorProto.DOUBLE}),
        ([ints(1, 2)], {"to": TensorProto.INT32}),
        ([ints(1, -2)], {"to": TensorProto.INT8}),
        ([ints(1, 255)], {"to": TensorProto.UINT8}),
    ],
    "CastLike": [([X, ints(1)], {})],
    "Clip": [([X, np.array(-0.5), np.array(0.5)], {}), ([X, np.array(0.1)], {}), ([X, None, np.array(0.1)], {})],
    "Concat": [([X, real(2, 1, 4)], {"axis": 1}), ([X, X, X], {"axis": -1})],
    "Constant": [
        ([], {"value": numpy_helper.from_array(X)}),
        ([], {"value_ints": [1, 2]}),
        ([], {"value_int": 3}),
        ([], {"value_floats": [0.5]}),
    ],
    "ConstantOfShape": [([ints(2, 3)], {"value": numpy_helper.from_array(ints(7))})],
    "Conv": [
        ([IMAGE, real(6, 2, 3, 2), real(6)], {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}),
        ([IMAGE, real(5, 4, 2, 2)], {"dilations": [2, 2]}),
    ],
    "ConvTranspose": [
        ([IMAGE, real(4, 3, 3, 2), real(3)], {"strides": [2, 1], "pads": [1, 0, 1, 0], "output_padding": [1, 0]}),
    ],
    "CumSum": [([X, np.array(1)], {})],
    "Einsum": [([X, real(2, 4, 5)], {"equation": "bij,bjk->bik"})],
    "Expand": [([real(3, 1), ints(2, 1, 4)], {})],
    "Flatten": [([X], {"axis": 2}), ([X], {})],
    "Gather": [([X, np.array([[0, -1], [2, 1]])], {"axis": 1}), ([X, np.array(-1)], {"axis": 2})],
    "GatherElements": [([X, RNG.integers(-3, 3, (2, 2, 4))], {"axis": 1})],
    "GatherND": [([X, np.array([[0, 1], [1, -1]])], {}), ([X, np.array([[1], [2]])], {"batch_dims": 1})],
    "Gelu": [([X], {}), ([X], {"approximate": "tanh"})],
    "Gemm": [
        ([real(3, 4), real(5, 4), real(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ([real(4, 3), real(4, 5)], {"transA": 1}),
    ],
    "GlobalAveragePool": [([IMAGE], {})],
    "GroupNormalization": [([IMAGE, real(4), real(4)], {"num_groups": 2, "epsilon": 2**-10})],
    "HardSigmoid": [([X], {"alpha": 0.25, "beta": 0.5})],
    "InstanceNormalization": [([IMAGE, real(4), real(4)], {"epsilon": 2**-10})],
    "LayerNormalization": [([X, real(4), real(4)], {"epsilon": 2**-10}), ([X, real(3, 4)], {"axis": 1})],
    "LeakyRelu": [([X], {"alpha": 0.25}), ([X], {"alpha": -(2.0**40)})],
    "Log": [([positive(2, 3)], {})],
    "LogSoftmax": [([X], {}), ([X], {"axis": 1})],
    "MatMul": [([X, real(4, 5)], {}), ([X, real(2, 4, 5)], {}), ([X, real(4)], {})],
    "MatMulInteger": [
        ([RNG.integers(0, 256, (2, 3, 4)).astype(np.uint8), RNG.integers(-128, 128, (4, 5)).astype(np.int8)], {}),
        ([np.uint8([[255, 0]]), np.int8([[-128], [127]]), np.array(128, np.uint8), np.array(1, np.int8)], {}),
    ],
    "MaxPool": [([IMAGE], KERNEL), ([IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]})],
    "Mod": [([ints(5, -5, 7), ints(3, 3, -4)], {}), ([X, positive(4)], {"fmod": 1})],
    "Not": [([flags(2, 3)], {})],
    "Or": [([flags(2, 3), flags(3)], {})],
    "Pad": [
        ([X, ints(0, 1, 2, 0, 0, 3)], {}),
        ([X, ints(1, 2), np.array(0.5), ints(-1)], {}),
    ],
    "Pow": [([positive(2, 3), real(3)], {}), ([X, np.array(2.0)], {})],
    "RMSNormalization": [([X, real(4)], {"epsilon": 2**-10})],
    "Range": [([np.array(1), np.array(7), np.array(2)], {}), ([np.array(0.0), np.array(1.0), np.array(0.25)], {})],
    "DequantizeLinear": [
        ([RNG.integers(0, 256, (2, 3, 4)).astype(np.uint8), positive(3), RNG.integers(0, 256, 3).astype(np.uint8)], {}),
        ([RNG.integers(-(2**24), 2**24, (3, 4)).astype(np.int32), positive(3)], {"axis": 0}),
        ([np.int8([[-128, 127]]), np.array(0.01), np.array(-3, np.int8)], {}),
    ],
    "QuantizeLinear": [
        ([100 * X, positive(3), RNG.integers(100, 150, 3).astype(np.uint8)], {"axis": 1}),
        ([np.array([[0.5, 1.5, 2.5, -1e4]]), np.array([1.0]), np.uint8([128])], {"axis": 0}),
        ([X, np.array(0.01), np.array(0, np.int8)], {}),
    ],
    "Reciprocal": [([positive(2, 3)], {})],
    "Reshape": [([X, ints(0, -1)], {}), ([X, ints(4, 6)], {}), ([real(0, 3, 4), ints(-1, 4)], {})],
    "ScatterElements": [
        ([X, RNG.permuted(np.tile(np.arange(3)[:, None], (2, 1, 4)), axis=1), real(2, 3, 4)], {"axis": 1}),
        ([X, ints(0, 0).reshape(1, 1, 2), real(1, 1, 2)], {"axis": 2, "reduction": "add"}),
    ],
    "ScatterND": [([X, np.array([[1, 2], [0, 0]]), real(2, 4)], {}), ([X, np.array([[1]]), real(1, 3, 4)], {})],
    "Shape": [([X], {}), ([X], {"start": 1, "end": 2}), ([X], {"start": -1})],
    "Size": [([X], {})],
    "Slice": [
        ([X, ints(1), ints(3), ints(1)], {}),
        ([X, ints(-1, 0), ints(-100, 2**62), ints(2, 1), ints(-2, 2)], {}),
        ([X, ints(0, 2), ints(1, 1)], {}),
    ],
    "Softmax": [([X], {}), ([X], {"axis": 1})],
    "Split": [([X, ints(1, 3)], {"axis": 2}), ([real(2, 5)], {"axis": 1, "num_outputs": 2})],
    "Sqrt": [([positive(2, 3)], {})],
    "Squeeze": [([real(1, 3, 1), ints(-1)], {}), ([real(1, 3, 1)], {})],
    "Tile": [([X, ints(1, 2, 3)], {})],
    "TopK": [([X, ints(2)], {"axis": 1}), ([X, ints(3)], {"largest": 0})],
    "Transpose": [([X], {"perm": [2, 0, 1]}), ([X], {})],
    "Trilu": [([X], {}), ([X, np.array(1)], {"upper": 0})],
    "Unsqueeze": [([X, ints(-1, 0)], {})],
    "Where": [([flags(3, 1), X, real(4)], {})],
}
COARSE = {"Erf", "Gelu", "HardSwish", "GroupNormalization", "LayerNormalization"}
"""What the reference implementation computes in float32."""
OUTPUTS = {"MaxPool": 1, "Split": 2, "TopK": 2}


@pytest.mark.parametrize("op", OPS)
def test_op_gives_what_onnx_says(op):
    for inputs, attributes in CASES[op]:
        names = ["" if value is None else f"x{place}" for place, value in enumerate(inputs)]
        outputs = [f"y{place}" for place in range(OUTPUTS.get(op, 1))]
        node = helper.make_node(op, names, outputs, **attributes)
        given = {name: value for name, value in zip(names, inputs, strict=True) if name}
        infos = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in given.items()
        ]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph([node], op, infos, results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        expected = ReferenceEvaluator(model).run(None, given)
        tensors = (None if value is None else torch.from_numpy(np.asarray(value)) for value in inputs)
        ours = OPS[op](*tensors, **_values(attributes))
        ours = [ours] if isinstance(ours, torch.Tensor) else ours
        for mine, right in zip(ours, expected, strict=op != "MaxPool"):
            right = np.asarray(right)
            assert mine.shape == right.shape, (op, attributes)
            assert mine.numpy().dtype.kind == right.dtype.kind
            np.testing.assert_allclose(
                mine.numpy(), right, rtol=0, atol=1e-6 if op in COARSE else 1e-12, err_msg=f"{op} {attributes}"
            )


def _values(attributes):
    """As onnx_ir reads them."""
    return {
        name: torch.from_numpy(numpy_helper.to_array(value).copy()) if isinstance(value, onnx.TensorProto) else value
        for name, value in attributes.items()
    }


def test_places_of_maxima_are_counted_through_the_whole_tensor():
    values, places = OPS["MaxPool"](torch.from_numpy(IMAGE), **KERNEL)
    np.testing.assert_array_equal(IMAGE.ravel()[places.numpy()], values.numpy())


def _file(tmp_path, *nodes):
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("pixels", "logits")]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **node[3]) for node in nodes], "g", infos[:1], infos[1:],
        [numpy_helper.from_array(np.float32([0.1]), "tenth")],
    )  # fmt: skip
    path = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_numbers_are_those_of_float32_and_arithmetic_is_not(tmp_path):
    """A third is no third, but as float32 has it; its product is exact. Types in the file are widened."""
    nodes = [
        ("Mul", ["pixels", "tenth"], ["product"], {}),
        ("Cast", ["product"], ["logits"], {"to": TensorProto.FLOAT}),
    ]
    pixels = torch.tensor([1 / 3], dtype=torch.float64)
    (result,) = OnnxOpByOp(_file(tmp_path, *nodes)).run(pixels, torch.zeros(0), ["logits"]).values()
    assert result.dtype == torch.float64 and result == pixels * float(np.float32(0.1))


def test_ops_that_are_not_in_the_table(tmp_path):
    nodes = [
        ("Tan", ["pixels"], ["x"], {}),
        ("Elu", ["x"], ["y"], {"alpha": 0.5}),
        ("Round", ["y"], ["z"], {}),
        ("Sub", ["y", "z"], ["logits"], {}),
    ]
    pixels = torch.linspace(-1.5, 1.5, 9, dtype=torch.float64)
    (result,) = OnnxOpByOp(_file(tmp_path, *nodes)).run(pixels, torch.zeros(0), ["logits"]).values()
    before = torch.nn.functional.elu(pixels.tan(), 0.5)
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, before - before.round(), rtol=0, atol=1e-12)


def test_the_suffix_of_torchscript_in_any_case(tmp_path):
    for name in ("x.pt", "x.PT"):
        torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / name)
        assert isinstance(open_op_by_op(tmp_path / name), ScriptOpByOp)


def test_an_op_that_onnx_does_not_have_is_named(tmp_path):
    path = _file(tmp_path, ("Unheard", ["pixels"], ["logits"], {}))
    with pytest.raises(OnnxplainError, match="Unheard cannot be computed in float64"):
        OnnxOpByOp(path)


def test_pytorch_in_double():
    """Numbers in the code are rounded to float32, its type float32 is float64, and so is what a type can resolve."""
    tenth = float(np.float32(0.1))
    with in_double():
        x = torch.ones(2, dtype=torch.float64, requires_grad=True)
        assert (x * 0.1).tolist() == [tenth] * 2
        assert (x + torch.tensor(0.1)).tolist() == [1 + tenth] * 2
        assert (x / 3).to(torch.float32).tolist() == [1 / 3] * 2
        assert torch.arange(3, dtype=torch.float32).dtype == torch.arange(3.0).dtype == torch.float64
        assert torch.finfo(x.dtype).eps == np.finfo(np.float32).eps
        small = torch.full((4,), 1e-3, dtype=torch.float64)
        root = (1e-6 + np.finfo(np.float32).eps) ** 0.5  # of a norm that was told no epsilon
        assert torch.allclose(torch.nn.functional.rms_norm(small, (4,)), small / root, rtol=1e-6, atol=0)
        (gradient,) = torch.autograd.grad((x * x * 0.1).sum(), x)
        assert gradient.tolist() == [2 * tenth] * 2
    assert torch.tensor(0.1).dtype == torch.float32 and torch.finfo(torch.float64).eps == np.finfo(np.float64).eps


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: torch.nn.functional.prelu(x, w[0, :1]),
        lambda x, w: torch.tensordot(x, w, dims=1),
        lambda x, w: torch.nn.functional.linear(x, w, w[0]),
        lambda x, w: torch.nn.functional.conv2d(x[:, None, None], w[:, :1, None, None], w[0]),
        lambda x, w: torch.nn.functional.bilinear(x, x, torch.stack([w, w])),
        lambda x, w: torch.nn.functional.multi_head_attention_forward(
            *(x[:, None],) * 3,
            3,
            1,
            torch.cat([w] * 3),
            w.flatten(),
            None,
            None,
            False,
            0.0,
            w,
            w[0],
            False,
            None,
            False,
        )[0],
    ],
    ids=["prelu", "tensordot", "linear", "conv2d", "bilinear", "attention"],
)
def test_functions_of_inputs_in_double_and_weights_in_single(function):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=random, dtype=torch.float64).requires_grad_()
    w = torch.randn(3, 3, generator=random)
    right = function(x, w.double())
    with in_double():
        given = function(x, w)
        (gradient,) = torch.autograd.grad(given.sum(), x)
    torch.testing.assert_close(given, right, rtol=0, atol=1e-14)
    torch.testing.assert_close(gradient, torch.autograd.grad(right.sum(), x)[0], rtol=0, atol=1e-14)


def test_what_is_refused_in_one_dtype_too():
    x = torch.ones(2, 3, dtype=torch.float64)
    with in_double(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        x @ torch.ones(2, 3)
    with in_double(), pytest.raises(RuntimeError):  # and is not called with a copy of what it writes to
        torch.ones(2, 3, dtype=torch.bfloat16).scatter_(0, torch.zeros(1, 3, dtype=torch.int64), x)
