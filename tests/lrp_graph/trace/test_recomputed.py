"""Backward passes over values that are computed again: they give the same, and keep less."""

import pytest
import torch
from torch import fx

from onnxplain.lrp_graph import fuse
from onnxplain.lrp_graph.trace import recomputed
from onnxplain.lrp_graph.trace.rewrite import interpret
from tests.helpers.graph_checks import BATCH, TARGET, assert_same, fused
from tests.lrp_graph.test_pools import images, pooled
from tests.reference import variants


@pytest.mark.parametrize("name", ["plain", "registers", "mean_pool_no_class", "swiglu_packed", "parallel_things"])
def test_all_outputs_are_the_same(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    assert_same(graph.compute(pixels, TARGET, graph.names, recompute=True), graph(pixels, TARGET), 0)


def test_with_an_attention_pool() -> None:
    graph = fuse(pooled({}), images()[:1])
    found = graph.compute(images(), TARGET, graph.names, recompute=True)
    for name, expected in graph(images(), TARGET).items():
        assert torch.equal(found[name], expected), name


def test_a_backward_pass_computes_each_layer_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = fused("deeper")
    pixels = variants.pixels(model, BATCH)
    again: list[fx.Node] = []

    def spy(nodes, values):
        again.extend(nodes)
        return interpret(nodes, values)

    monkeypatch.setattr(recomputed, "interpret", spy)
    graph.compute(pixels, TARGET, ["relevance"], recompute=True)
    assert len(again) == len(set(again)) and len(again) > len(graph._nodes) / 2


def test_what_is_kept() -> None:
    model, graph = fused("deeper")
    pixels = variants.pixels(model, BATCH)
    values, every = graph._recomputed(pixels), graph._interpret(pixels)
    assert values.keys() == every.keys() and len(values) == len(every)
    attention = set(graph._trace.attention_nodes)
    scores = {one for node in attention for one in node.all_input_nodes}
    assert attention <= values._kept.keys() and scores.isdisjoint(values._kept)
    for node in reversed(graph._nodes):
        if isinstance(every[node], torch.Tensor):
            torch.testing.assert_close(values[node], every[node], rtol=0, atol=0)
