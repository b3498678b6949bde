"""What the gate compares with: autograd on the model itself, layer by layer."""

import weakref

import pytest
import torch
from torch import Tensor

from onnxplain.export.verify import autograd_reference as module
from onnxplain.export.verify.autograd_reference import BY_AUTOGRAD, OF_FORWARD, eager_outputs
from onnxplain.lrp_graph import LayerOutputs
from tests.helpers.graph_checks import BATCH, TARGET, Hand, fused, images
from tests.reference import eager, variants

CLASSES = TARGET % variants.CLASSES  # no ranks


@pytest.mark.parametrize("name", ["deeper", "parallel_things", "parallel_scaling"])
def test_several_images_and_classes_against_plain_autograd(name: str) -> None:
    """Of parallel attention too: the hooks have to come in the order of the layers, the last one first."""
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    given = eager_outputs(model, pixels, CLASSES, graph.layout, ["logits", "attention", "attention_gradient"])
    assert given.keys() == {"logits", "attention", "attention_gradient"}
    for column, target in enumerate(CLASSES.unbind(1)):
        logits, attention, gradient = eager.attention_and_gradient(model, pixels, target)
        for tensor, expected in ((given["logits"], logits), (given["attention"], attention)):
            torch.testing.assert_close(tensor, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(given["attention_gradient"][:, column], gradient, rtol=1e-12, atol=1e-12)


def test_no_backward_pass_for_attention_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = fused("plain")
    pixels = variants.pixels(model, BATCH)
    names = OF_FORWARD.intersection(graph.names)
    whole = eager_outputs(model, pixels, CLASSES, graph.layout, BY_AUTOGRAD.intersection(graph.names))
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a backward pass"))
    alone = eager_outputs(model, pixels, CLASSES, graph.layout, names)
    assert alone.keys() == names and all(torch.equal(alone[name], whole[name]) for name in names)


def test_attention_that_is_not_recorded_is_an_error() -> None:
    """A model may have taken the function before it is patched."""
    model = Hand(torch.nn.functional.scaled_dot_product_attention)
    layout = fused("plain")[1].layout
    names = {"logits", "attention_gradient"}
    with pytest.raises(LookupError, match="its attention is computed by other functions"):
        eager_outputs(model, images(), CLASSES, layout, names)


@pytest.mark.parametrize("recompute", [False, True])
def test_cotangents_of_a_layer_are_gone_when_the_next_come(recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, weakref.ref[Tensor]]] = []
    add = LayerOutputs.add

    def spy(self: LayerOutputs, raw: dict[str, Tensor]) -> None:
        assert all(one() is None for earlier in seen for name, one in earlier.items() if name != "attention")
        seen.append({name: weakref.ref(tensor) for name, tensor in raw.items()})
        add(self, raw)

    monkeypatch.setattr(LayerOutputs, "add", spy)
    model, graph = fused("deeper")
    pixels = variants.pixels(model, BATCH)
    names = ["gradient_relevance_positive", "layer_gradient_positive"]
    graph.compute(pixels, CLASSES, names, recompute)
    assert len(seen) == graph.layers and seen[0].keys() == {"attention_gradient", "relevance", "layer_gradient"}
    seen.clear()
    module.eager_outputs(model, pixels, CLASSES[:, :1], graph.layout, ["gradient_attention_mean"])
    assert sum("attention_gradient" in raw for raw in seen) == graph.layers
