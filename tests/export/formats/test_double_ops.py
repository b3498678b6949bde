"""Ops that are written as others for float64, against PyTorch's own in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onnxplain.export.formats import double_ops
from onnxplain.export.formats.double_ops import DOUBLE_OPS

aten = torch.ops.aten
ROUNDING = 2e-15


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = numbers(2, 6, 13, 11)
CASES = [
    (aten.gelu.default, (8 * X,), {}),
    (aten.gelu.default, (8 * X,), {"approximate": "tanh"}),
    (aten.leaky_relu.default, (X, -1e12), {}),
    (aten.leaky_relu.default, (X,), {}),
    (aten.softplus.default, (30 * X,), {}),
    (aten.softplus.default, (X, 2.5), {}),
    (aten.elu.default, (X, 1.3, 1.1, 0.7), {}),
    (aten.mish.default, (30 * X,), {}),
    (aten.prelu.default, (X, numbers(6)), {}),
    (aten.prelu.default, (X[..., 0, 0], numbers(6)), {}),
    (aten.prelu.default, (X, numbers(1)), {}),
    (aten.conv1d.default, (X[:, :, 0], numbers(4, 6, 3), numbers(4), [2], [1], [2]), {}),
    (aten.conv1d.default, (X[:, :, 0], numbers(6, 3, 3), None, [3], [0], [1], 2), {}),
    (aten.conv1d.padding, (X[:, :, 0], numbers(4, 6, 4), None, [1], "same"), {}),
    (aten.hardsigmoid.default, (3 * X,), {}),
    (aten.hardswish.default, (3 * X,), {}),
    (aten.avg_pool2d.default, (X, [3, 2]), {}),
    (aten.avg_pool2d.default, (X, [3, 3], [2, 2], [1, 1]), {}),
    (aten.avg_pool2d.default, (X, [3, 3], [2, 1], [1, 1], False, False), {}),
    (aten.avg_pool2d.default, (X, [2, 2], [2, 2], [0, 0], True, False), {}),
    (aten.avg_pool2d.default, (X, [3, 2], [3, 3], [1, 1], True, True), {}),
    (aten.avg_pool2d.default, (X, [2, 2], [4, 3], [0, 1], True, False), {}),
    (aten.layer_norm.default, (X + 1, [11], numbers(11), numbers(11, seed=1), 1e-6), {}),
    (aten.layer_norm.default, (X, [13, 11]), {}),
    (aten.rms_norm.default, (X, [11], numbers(11), 1e-6), {}),
    (aten.group_norm.default, (X, 3, numbers(6), numbers(6, seed=1), 1e-5), {}),
    (aten.group_norm.default, (X, 2), {}),
    (aten.group_norm.default, (X[..., 0], 3, numbers(6), numbers(6, seed=1), 1e-5), {}),  # of tokens
    (aten.group_norm.default, (X[..., 0, 0], 3, numbers(6), numbers(6, seed=1), 1e-5), {}),
    (aten.batch_norm.default, (X, numbers(6), numbers(6), numbers(6), X[0, :, 0, 0] ** 2, False, 0.1, 1e-5, False), {}),
    (aten.batch_norm.default, (X, None, None, numbers(6), X[0, :, 0, 0] ** 2, False, 0.1, 1e-5, False), {}),
    (aten.new_full.default, (X, [3, 4], 0.1), {}),
    (aten.full_like.default, (X, 0.1), {}),
    (aten.clamp.default, (X, -0.1, 0.3), {}),
    (aten.clamp_min.default, (X, 1e-12), {}),
    (aten.clamp_max.default, (X, 0.3), {}),
    (aten.where.ScalarSelf, (X > 0, 0.1, X), {}),
    (aten.where.ScalarOther, (X > 0, X, 0.1), {}),
]
"""Groups, stride, padding, dilation and the kernel of convolutions."""
CONVOLUTIONS = [
    (1, (3, 3), (0, 0), (1, 1), (3, 3)),  # patches, of which some pixels are left over
    (1, (3, 3), (1, 1), (1, 1), (3, 3)),
    (1, (2, 1), (1, 2), (1, 1), (3, 2)),
    (2, (1, 1), (1, 1), (2, 1), (3, 3)),
    (3, (2, 2), (0, 0), (1, 1), (2, 2)),
    (6, (1, 2), (2, 2), (1, 1), (5, 5)),  # one channel each
]


@pytest.mark.parametrize(("op", "args", "options"), CASES, ids=[str(op) for op, _, _ in CASES])
def test_op(op, args, options):
    right = op(*args, **options)
    given = DOUBLE_OPS[op](*args, **options)
    assert given.dtype == torch.float64
    torch.testing.assert_close(given, right, rtol=0, atol=ROUNDING * float(right.abs().max()))


@pytest.mark.parametrize(("groups", "stride", "padding", "dilation", "kernel"), CONVOLUTIONS)
def test_convolution_and_its_transpose(groups, stride, padding, dilation, kernel):
    w, b = numbers(12, 6 // groups, *kernel, seed=2), numbers(12, seed=3)
    right = F.conv2d(X, w, b, stride, padding, dilation, groups)
    given = double_ops.conv2d(X, w, b, stride, padding, dilation, groups)
    torch.testing.assert_close(given, right, rtol=0, atol=10 * ROUNDING * float(right.abs().max()))
    back = F.conv_transpose2d(right, w, None, stride, 0, 0, groups, dilation)
    given = double_ops.conv_transpose2d(right, w, None, stride, 0, 0, groups, dilation)
    torch.testing.assert_close(given, back, rtol=0, atol=10 * ROUNDING * float(back.abs().max()))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_in_words(padding):
    w = numbers(4, 6, 3, 2)
    given = DOUBLE_OPS[aten.conv2d.padding](X, w, None, [1, 1], padding, [1, 2])
    torch.testing.assert_close(given, F.conv2d(X, w, None, 1, padding, (1, 2)), rtol=0, atol=1e-12)


def test_erf():
    """Against Python's, which is right to the last bit or two."""
    x = torch.cat([torch.linspace(-7, 7, 20001, dtype=torch.float64), torch.tensor([0.0, -1e-9, 1e300, -1e300])])
    right = torch.tensor([math.erf(value) for value in x.tolist()], dtype=torch.float64)
    assert (double_ops.erf(x) - right).abs().max() < 5e-16
    assert double_ops.erf(torch.zeros(1, dtype=torch.float64)) == 0


def test_numbers_that_float32_has_stay():
    assert DOUBLE_OPS[aten.clamp.default](X, 0.0, 6.0) is NotImplemented
    assert DOUBLE_OPS[aten.new_full.default](X, [2], 0.5) is NotImplemented


def test_epsilon_of_a_norm_without_one_is_that_of_float32():
    x = 1e-4 * X
    right = x / torch.sqrt((x * x).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)
    torch.testing.assert_close(DOUBLE_OPS[aten.rms_norm.default](x, [11]), right)


@pytest.mark.parametrize(
    "call",
    [
        lambda: double_ops.leaky_relu(X, 2.0),
        lambda: double_ops.batch_norm(X, None, None, None, None, True, 0.1, 1e-5),
        lambda: double_ops.conv_transpose2d(X, numbers(6, 2, 3, 3), None, 2, 1),
    ],
)
def test_what_is_not_written(call):
    with pytest.raises(NotImplementedError):
        call()


def test_modules_of_pytorch_are_covered():
    """The ops that PyTorch's modules come to are those of the table."""
    seen = set()

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            seen.add(op)
            return op(*args, **(kwargs or {}))

    modules = [nn.GELU(), nn.Softplus(), nn.ELU(), nn.Hardswish(), nn.Hardsigmoid(), nn.LeakyReLU(), nn.AvgPool2d(2)]
    modules += [nn.Mish(), nn.PReLU(6)]
    modules += [nn.Conv2d(6, 2, 3), nn.LayerNorm(11), nn.GroupNorm(2, 6), nn.BatchNorm2d(6), nn.RMSNorm(11)]
    with torch.inference_mode(), Seen():
        for module in modules:
            module.eval().double()(X)
    assert len(seen & DOUBLE_OPS.keys()) == len(modules), seen
