"""What a graph holds beside the picture's values: shapes and types taken of them, masks, shifts by padding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onnxplain.lrp_graph import fuse
from onnxplain.lrp_graph.trace.rewrite import target_of
from tests.helpers.graph_checks import TARGET, Hand, check_gradient, images, sdpa, worst

TABLE = torch.linspace(-1, 1, 16, dtype=torch.float64)
PLAIN = Hand(sdpa, lambda x: (x + TABLE).mean(1))
SAME: dict[str, Callable[[Tensor], Tensor]] = {
    "type_as": lambda x: x + TABLE.float().type_as(x) + (TABLE - TABLE.float().double()),
    "to": lambda x: x + TABLE.float().to(x) + (TABLE - TABLE.float().double()),
    "expand_as": lambda x: x + TABLE.expand_as(x),
    "view_as": lambda x: x + TABLE.expand(x.shape[0], 16, 16).view_as(x),
    "reshape_as": lambda x: x + TABLE.expand(x.shape[0], 16, 16).reshape_as(x),
    "ones_like": lambda x: x + torch.ones_like(x) * TABLE,
    "zeros_like": lambda x: x + (torch.zeros_like(x[:, :1]) + TABLE),
    "full_like": lambda x: x + torch.full_like(x, 2) * (TABLE / 2),
    "new_ones": lambda x: x + x.new_ones(x.shape[0], 1, 16) * TABLE,
    "new_zeros": lambda x: x + (x.new_zeros(16) + TABLE),
    "new_full": lambda x: x + x.new_full((1, 16), 2) * (TABLE / 2),
}


@pytest.mark.parametrize("name", SAME)
def test_a_constant_that_takes_its_shape_or_type_of_the_image(name: str) -> None:
    """A constant added to the tokens takes no relevance; a value of the picture's would."""
    model = Hand(sdpa, lambda x: SAME[name](x).mean(1))
    graph = fuse(model, images()[:1], ("gradient", "relevance", "pixel_gradient"))
    check_gradient(model, graph, images())
    expected = fuse(PLAIN, images()[:1], ("relevance",)).compute(images(), TARGET, {"relevance"})["relevance"]
    assert worst(graph.compute(images(), TARGET, {"relevance"})["relevance"], expected, 0) <= 1e-9


def test_what_weights_alone_give_is_computed_once() -> None:
    """In float64, then rounded, whatever the graph is turned into afterwards; views of weights are not kept twice."""
    single = TABLE.float()
    model = Hand(sdpa, lambda x: (x * torch.exp(single * 0.3).reshape(1, 16) + TABLE.reshape(1, 16)[:, 3:4]).mean(1))
    graph = fuse(model, images()[:1], ("gradient", "relevance"))
    ops = [target_of(node) for node in graph._nodes]
    assert torch.ops.aten.exp not in ops and torch.ops.aten.slice in ops
    check_gradient(model, graph, images(), 1e-6)
    kept = [buffer for buffer in graph.double().buffers(recurse=False) if buffer.shape == (1, 16) and buffer.min() > 0]
    exact = torch.exp(single.double() * float(np.float32(0.3))).float()
    assert len(kept) == 1 and torch.equal(kept[0][0], exact.double())


def test_what_weights_alone_give_is_rounded_once() -> None:
    """Each step in float32 would be off by more."""
    table = torch.linspace(-9, 9, 16)
    model = Hand(sdpa, lambda x: (x * torch.tanh(torch.exp(table).log1p().cumsum(0) / 40)).mean(1))
    graph = fuse(model.float(), images()[:1].float(), ("gradient",))
    exact = torch.tanh(torch.exp(table.double()).log1p().cumsum(0) / 40).float()
    assert not torch.equal(exact, torch.tanh(torch.exp(table).log1p().cumsum(0) / 40))
    assert any(torch.equal(buffer, exact) for buffer in graph.buffers(recurse=False))


def test_what_weights_alone_give_is_kept_in_full_where_that_is_asked_for() -> None:
    table = torch.linspace(-9, 9, 16)
    model = Hand(sdpa, lambda x: (x * torch.tanh(table * 0.3)).mean(1)).float()
    pixels = images()[:1].float()
    single, double = (fuse(model, pixels, ("gradient",), exact_constants=exact) for exact in (False, True))
    assert not single._trace.exact and double._trace.exact
    exact = torch.tanh(table.double() * 0.3)
    assert any(torch.equal(buffer, exact) for buffer in double.buffers(recurse=False))
    assert all(buffer.dtype == torch.float32 for buffer in single.buffers(recurse=False))


AS_IT_IS: dict[str, Callable[[], Tensor]] = {
    "rounds on purpose": lambda: torch.floor((torch.arange(16) / 49.0) * 49),
    "a range whose length depends on rounding": lambda: torch.arange(0, 0.6, 0.1).sum() * torch.ones(16),
    "an index": lambda: torch.arange(100.0)[((torch.arange(16) / 49.0) * 49).long()] * torch.ones(16),
    "float64 on purpose": lambda: (torch.arange(16, dtype=torch.float64) * 0.1 * 1000).sin().float() * torch.ones(16),
    "complex": lambda: torch.view_as_real(torch.polar(torch.ones(16), torch.arange(16.0)))[..., 0] @ torch.eye(16),
    "bits": lambda: (torch.linspace(1, 2, 16).view(torch.int32) % 97).float(),
}


@pytest.mark.parametrize("name", AS_IT_IS)
def test_what_is_more_than_rounding_stays_as_the_model_computes_it(name: str) -> None:
    model = Hand(sdpa, lambda x: (x * AS_IT_IS[name]()).mean(1)).float()
    pixels = images()[:1].float()
    graph = fuse(model, pixels, ("gradient",))
    torch.testing.assert_close(
        graph.compute(pixels, TARGET[:1], {"logits"})["logits"], model(pixels), rtol=1e-6, atol=1e-6
    )


def test_boolean_masks_of_two_that_are_all_true() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        place = torch.arange(q.shape[2])
        return nn.functional.scaled_dot_product_attention(q, k, v, ((place >= 0) & (place < 16)).expand(16, 16))

    model = Hand(attend)
    check_gradient(model, fuse(model, images()[:1]), images())


def test_padding_that_shifts() -> None:
    model = Hand(sdpa, lambda x: nn.functional.pad(x, [0, 0, 2, -2])[:, 3])
    graph = fuse(model, images()[:1])
    assert graph.layout.readout == (1,)
    check_gradient(model, graph, images())
