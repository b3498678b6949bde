"""The head's selection moves up through the last block and changes no value."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.lrp_graph import FusedGraph, fuse
from onnxplain.lrp_graph.trace.rewrite import ancestors, shape_of, target_of
from tests.helpers.graph_checks import BATCH, TARGET, Hand, assert_same, check_gradient, fused, images, sdpa
from tests.reference import variants

aten = torch.ops.aten


@pytest.fixture
def without_moving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FusedGraph]:
    """`fuse`, with the selection left where it stands."""

    def plain(*args: Any) -> FusedGraph:
        with monkeypatch.context() as patch:
            for module in ("trace.capture", "outputs.reciprocam"):
                patch.setattr(f"onnxplain.lrp_graph.{module}.hoist_selection", lambda graph, nodes: None)
            return fuse(*args)

    return plain


def ranks_after_attention(graph: FusedGraph) -> set[int]:
    """How many axes the results of the linear layers between the last attention and the logits have."""
    nodes = graph._trace.nodes
    tail = ancestors(graph._trace.logits).intersection(nodes[nodes.index(graph._trace.layer_attention[-1]) :])
    return {len(shape_of(node)) for node in tail if target_of(node) is aten.linear}


def layers_of_all_tokens(graph: FusedGraph) -> int:
    """How many linear layers of the copy of the last block compute every token."""
    return sum(
        target_of(node) is aten.linear and len(shape_of(node)) == 3 for node in graph._prepared["reciprocam"].nodes
    )


@pytest.mark.parametrize("name", ["plain", "distilled", "swiglu", "res_post", "parallel_scaling_fused", "clip"])
def test_moving_the_selection_changes_no_value(name: str, without_moving: Callable[..., FusedGraph]) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    whole = without_moving(model, pixels[:1])
    assert ranks_after_attention(whole) >= {2, 3}
    assert_same(graph(pixels, TARGET), whole(pixels, TARGET))
    assert graph.layout == whole.layout
    # Two rows of a distilled model are read: it stays whole.
    assert ranks_after_attention(graph) == ({2, 3} if name == "distilled" else {2})
    assert (layers_of_all_tokens(graph) < layers_of_all_tokens(whole)) == (name != "distilled")


def test_all_rows_of_a_mean_pooled_model_stay() -> None:
    assert ranks_after_attention(fused("mean_pool")[1]) == {2, 3}


SELECTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": lambda x: F.silu(x)[:, -2],
    "twice": lambda x: (y := F.gelu(x))[:, 1] * y[:, 1],
    "two rows": lambda x: (y := F.gelu(x))[:, 1] * y[:, 2],
    "a feature": lambda x: F.layer_norm(torch.sigmoid(x), (16,))[..., 3],
    "norm over two axes": lambda x: F.layer_norm(x, (16, 16))[:, 0],
    "rms norm": lambda x: F.rms_norm(x, (16,))[:, 5],
    "broadcast": lambda x: (x / (x.mean(2, keepdim=True) + 9) - x.mean(1, keepdim=True) * 2)[:, 4],
    "of one": lambda x: torch.tanh(x.mean(1, keepdim=True))[:, 0],
    "transposed": lambda x: F.relu(x.transpose(1, -1))[..., 6],
    "reshaped": lambda x: F.relu(x.reshape(-1, 16, 4, 4))[:, 7].flatten(1),
    "merged": lambda x: F.relu(x.reshape(-1, 4, 64))[:, 1, :16],
    "product": lambda x: (torch.tanh(x) @ x)[:, 8],
    "used whole": lambda x: (y := F.relu(x))[:, 0] + y.mean(1),
}


@pytest.mark.parametrize("pool", SELECTIONS.values(), ids=SELECTIONS)
def test_selections(pool: Callable[[Tensor], Tensor], without_moving: Callable[..., FusedGraph]) -> None:
    model, pixels = Hand(sdpa, pool), images()
    graph = fuse(model, pixels[:1])
    check_gradient(model, graph, pixels)
    assert_same(graph(pixels, TARGET), without_moving(model, pixels[:1])(pixels, TARGET))
