"""The fused graph as a flat program, and its translation call by call: what PyTorch makes of the whole graph."""

import copy

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from onnxplain.contract import OnnxplainError
from onnxplain.export.formats import recording as module
from onnxplain.export.formats.distinct_calls import DistinctCalls
from onnxplain.export.formats.program import exported_program
from onnxplain.export.formats.recording import flat_program
from onnxplain.export.formats.translation import to_onnx
from onnxplain.lrp_graph import fuse
from onnxplain.lrp_graph.fuse import FusedGraph
from tests.helpers.export_cases import build

SIZE = (32, 32)


class Changed(FusedGraph):
    """A fused graph with logits that are computed from the numbers of images and targets as well."""

    def forward(self, pixels, target):
        outputs = super().forward(pixels, target)
        return outputs | {"logits": self.change(outputs["logits"], target.shape[1])}


def fused(name="registers", change=None):
    graph = fuse(build(name), torch.zeros(1, 3, *SIZE), ["gradient"])
    if change is not None:
        graph = copy.copy(graph)
        graph.__class__, graph.change = Changed, change
    return graph


def outputs_of(model, graph, images, targets):
    pixels = np.random.default_rng(0).normal(size=(images, 3, *SIZE)).astype(np.float32)
    inputs = pixels, np.ones((images, targets), int)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.run(list(graph.names), dict(zip(("pixels", "target"), inputs, strict=True)))
    with torch.no_grad():
        wanted = graph(*map(torch.from_numpy, inputs))
    return given, [wanted[name].numpy() for name in graph.names]


def assert_right(graph):
    model = to_onnx(graph, SIZE, 20)
    for images, targets in ((1, 1), (3, 2)):
        for given, wanted in zip(*outputs_of(model, graph, images, targets), strict=True):
            np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
    return model


@pytest.fixture
def by_pytorch(monkeypatch):
    """How often PyTorch traced the whole graph."""
    traced = []

    def trace(graph, size):
        traced.append(graph)
        return exported_program(graph, size)

    monkeypatch.setattr(module, "exported_program", trace)
    monkeypatch.setattr("onnxplain.export.formats.translation.exported_program", trace)
    return traced


def test_calls_are_recorded_and_repeated(by_pytorch):
    graph = fused()
    assert_right(graph)
    assert not by_pytorch
    uses = DistinctCalls(flat_program(graph, SIZE)).uses
    assert len({use.call for use in uses}) < 0.7 * len(uses)  # of two blocks


def test_weights_share_their_memory():
    graph = fused()
    model = to_onnx(graph, SIZE, 20)
    weights = dict(graph.named_parameters())
    held = {name: value.const_value.raw for name, value in model.graph.initializers.items() if name in weights}
    assert held.keys() == weights.keys()
    assert all(tensor.data_ptr() == weights[name].data_ptr() for name, tensor in held.items())


def test_arithmetic_of_open_sizes(by_pytorch):
    assert_right(fused(change=lambda logits, targets: logits.repeat(targets, 2)[: len(logits)]))


def test_convolutions_padded_by_a_word(by_pytorch):
    """As transformers writes the patch embedding of SigLIP."""

    def convolved(logits, targets):
        return torch.nn.functional.conv2d(logits[:, None, None], logits.new_ones(1, 1, 1, 3), padding="same")[:, 0, 0]

    assert_right(fused(change=convolved))
    assert not by_pytorch


@pytest.mark.parametrize(
    "change",
    [
        lambda logits, targets: logits + len(logits) / 7,
        lambda logits, targets: logits + torch.tensor(len(logits) / 7),
        lambda logits, targets: torch.cat([logits, logits[:1]])[1:],
        lambda logits, targets: logits * 2 if len(logits) > 10020 else logits,
        lambda logits, targets: logits.clone().add_(1),
    ],
)
def test_what_depends_on_open_sizes_in_other_ways_is_left_to_pytorch(change, monkeypatch):
    monkeypatch.setattr(module, "exported_program", lambda graph, size: None)  # which may refuse it
    assert flat_program(fused(change=change), SIZE) is None


@pytest.mark.parametrize("number", [float, torch.tensor])
def test_no_number_of_images_is_written_into_a_file_of_float64(number):
    graph = fused(change=lambda logits, targets: logits + number(len(logits) / 7))
    with pytest.raises(OnnxplainError, match="has no form in float64: it depends on the number of images or classes"):
        flat_program(graph, SIZE, "float64")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda logits, targets: logits.clone().add_(1), r"aten.add_.Tensor changes a value in place"),
        (
            lambda logits, targets: logits.remainder(0.1),
            r"aten.remainder.Scalar of a number that float32 does not have",
        ),
        (lambda logits, targets: torch.nn.functional.leaky_relu(logits, 2.0), r"leaky_relu with a slope of 2.0"),
    ],
)
def test_what_has_no_form_in_float64_is_said(change, reason):
    with pytest.raises(OnnxplainError, match=rf"^the model has no form in float64: {reason}; leave out `precision`$"):
        flat_program(fused(change=change), SIZE, "float64")


def test_an_op_that_pytorch_does_not_translate_is_named():
    graph = fused(change=lambda logits, targets: torch.special.xlog1py(logits, logits))
    with pytest.raises(OnnxplainError, match=r"^the model has no form in float64: .*special_xlog1py.*`precision`$"):
        to_onnx(graph, SIZE, 18, "float64")
    to_onnx(graph, SIZE, 18)  # decomposed into others
    graph = fused(change=lambda logits, targets: torch.hypot(logits, logits))
    with pytest.raises(OnnxplainError, match=r"^PyTorch cannot translate the model to ONNX: .*hypot"):
        to_onnx(graph, SIZE, 18)


def test_tensors_made_of_numbers_are_recorded(by_pytorch):
    """Of any dtype and shape, and with NaN, which is never equal to itself."""
    made = torch.tensor(0.1), torch.tensor([1, 2]).sum(), torch.tensor([[True]]), torch.tensor([0.3]).bfloat16()

    def change(logits, targets):
        filled = torch.where(torch.tensor([False]), torch.tensor(float("nan")), logits)
        return filled + sum(number.to(logits.dtype) for number in made)

    assert_right(fused(change=change))
    assert not by_pytorch


def test_a_size_that_is_a_multiple_of_a_prime(by_pytorch):
    (first, *_), *_ = module.PRIMES
    graph = fused(change=lambda logits, targets: logits[:, None].expand(-1, first, -1).mean(1))
    assert flat_program(graph, SIZE).exported is not None and len(by_pytorch) == 1


def test_ops_without_a_translation_are_left_to_pytorch(by_pytorch):
    assert_right(fused(change=lambda logits, targets: torch.ops.aten.squeeze.dims(logits[None, None], [0, 1])))
    assert len(by_pytorch) == 1


def ones_and_zeros(logits, targets):
    """Tensors of two types in one call."""
    return logits * (logits > 0)


def large_numbers(logits, targets):
    return logits * (2**24 + 1) - 2 * logits


@pytest.mark.parametrize("change", [ones_and_zeros, large_numbers])
def test_types_that_differ_in_a_call_are_left_to_pytorchs_promotion(change, by_pytorch):
    graph = fused(change=change)
    assert DistinctCalls(flat_program(graph, SIZE)).may_promote
    assert_right(graph)
    assert not by_pytorch


@pytest.mark.parametrize("eps", [None, 1e-3])
def test_root_mean_square_norms(eps, by_pytorch):
    def norm(logits, targets):
        return torch.nn.functional.rms_norm(logits / 1e3, logits.shape[-1:], torch.arange(5.0), eps)

    assert_right(fused(change=norm))
    assert not by_pytorch
