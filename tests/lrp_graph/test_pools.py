"""Attention pools: one query of the head's own that attends to the tokens, one more layer on top."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from onnxplain.contract.lrp_rules import RULES
from onnxplain.contract.outputs import ALWAYS, POOLED
from onnxplain.export import Backbone
from onnxplain.export.artifact import describe
from onnxplain.export.plan import Plan
from onnxplain.export.verify.autograd_reference import BY_AUTOGRAD, eager_outputs
from onnxplain.lrp_graph import FusedGraph, fuse, pool_outputs
from onnxplain.runtime import Metadata, Preprocessing
from onnxplain.runtime.methods.choice import call_method
from onnxplain.runtime.pipeline import map_of
from tests.helpers.graph_checks import images, worst
from tests.reference import variants

TARGET = torch.tensor([[0, 3], [1, 2], [4, 0]])
POOLS = {
    "patches": {"class_token": False},
    "all tokens": {"class_token": True, "pool_include_prefix": True},
    "not the class token": {"class_token": True},
}


def pooled(options: dict[str, bool]) -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 3, 5, "map", 16, 2, 2, **options).double().eval()
    variants.randomise(model)
    return model


@pytest.fixture(params=POOLS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, FusedGraph]:
    model = pooled(POOLS[request.param])
    return model, fuse(model, images()[:1])


def test_against_autograd(case: tuple[nn.Module, FusedGraph]) -> None:
    model, graph = case
    found = graph(images(), TARGET)
    assert tuple(found) == graph.names and graph.left_out == {} and graph.layout.pool and graph.pool_heads == 2
    expected = eager_outputs(model, images(), TARGET, graph.layout, BY_AUTOGRAD.intersection(graph.names))
    assert set(pool_outputs(found)) & BY_AUTOGRAD <= expected.keys()
    for name, value in expected.items():
        assert worst(found[name], value, 0) <= 1e-9, name
    assert all(value.isfinite().all() for value in found.values())
    assert found["pool_relevance"].abs().sum((-1, -2, -3)).all()


def test_layer_gradient_is_of_the_pool_on_each_layer(case: tuple[nn.Module, FusedGraph]) -> None:
    model, graph = case
    found = graph.compute(images(), TARGET, ("layer_gradient",))["layer_gradient"]
    streams: list[Tensor] = []
    handles = [block.register_forward_hook(lambda module, given, out: streams.append(out)) for block in model.blocks]
    model(images())
    for handle in handles:
        handle.remove()
    for layer, tokens in enumerate(streams):
        matrices: list[Tensor] = []

        def attend(q: Tensor, k: Tensor, v: Tensor, matrices: list[Tensor] = matrices, **_: object) -> Tensor:
            matrices.append((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1))
            return matrices[-1] @ v

        with patch.object(torch.nn.functional, "scaled_dot_product_attention", attend):
            logits = model.forward_head(model.norm(tokens.detach()).requires_grad_())
        for column in range(TARGET.shape[1]):
            score = logits.gather(1, TARGET[:, column, None]).sum()
            (expected,) = torch.autograd.grad(score, matrices, retain_graph=True)
            seen = found[:, column, layer, ..., graph.tokens - expected.shape[-1] :]
            assert expected.shape[1] == graph.pool_heads and worst(seen, expected, 0) <= 1e-9


def test_outputs_are_those_that_the_runtime_expects(case: tuple[nn.Module, FusedGraph]) -> None:
    _, graph = case
    metadata = described(graph)
    assert {item.output for item in metadata.outputs} == set(graph.names) - {*ALWAYS}
    assert set(pool_outputs(graph.names)) == set(POOLED)
    found = graph(images(), TARGET)
    for item in metadata.outputs:
        assert tuple(found[item.output].shape) == (3, *[2] * item.per_target, *metadata.shape(item)), item.output


def described(graph: FusedGraph) -> Metadata:
    preprocessing = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backbone = Backbone("pool", graph.model, preprocessing, tuple("abcde"), "softmax", "", None)
    return describe(Plan(backbone, "onnx", 20, graph.passes, RULES), graph)


def test_maps_begin_with_the_row_of_the_pool(case: tuple[nn.Module, FusedGraph]) -> None:
    _, graph = case
    metadata = described(graph)
    assert Metadata.from_json(metadata.to_json()) == metadata
    values = {name: value[0].numpy() for name, value in graph(images(), TARGET).items()}
    one = np.eye(graph.tokens)
    row, matrices = values["pool_gradient_relevance_positive"][1], values["gradient_relevance_positive"][1]
    expected = metadata.layout.patches(row @ (one + matrices[1]) @ (one + matrices[0]))
    found = map_of(call_method("transformer_attribution", {}, metadata), metadata, values, 1, images()[0].numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    row, matrices = values["pool_attention_mean"], values["attention_mean"]
    with_residual = [(matrix + one) / (matrix + one).sum(1, keepdims=True) for matrix in matrices]
    expected = metadata.layout.patches(row @ with_residual[1] @ with_residual[0])
    found = map_of(call_method("rollout", {}, metadata), metadata, values, 0, images()[0].numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-9)
