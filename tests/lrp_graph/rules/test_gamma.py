"""The gamma rule: by hand, what the bias takes, and constants of their own for convolutions and linear layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.lrp_graph import fuse
from onnxplain.lrp_graph.reverse import Call
from onnxplain.lrp_graph.rules.attnlrp import attnlrp
from onnxplain.lrp_graph.rules.vjp import GRADIENT
from tests.helpers.graph_checks import images
from tests.helpers.libraries import OTHERS
from tests.helpers.rule_cases import random
from tests.reference import rules, variants

aten = torch.ops.aten


def relevance(op: Any, y: Tensor, r: Tensor, *arguments: Any, gamma: float) -> Tensor:
    """What the input gets of the relevance ``r`` of ``y``."""
    call = Call(y, arguments, {}, tuple(index == 0 for index in range(len(arguments))))
    (share,) = attnlrp(gamma, gamma)[op]((r / y)[None], call)
    return arguments[0] * share[0]


@pytest.mark.parametrize("by", ["table", "reference"])
def test_by_hand(by: str) -> None:
    """x = (1, 2), gamma = 1. f = (3, -2), b = 4, y = 5: (6, -2) / 12. f = (1, -4), b = 2, y = -1: (1, -8) / -5."""
    x, w = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[3.0, -1.0], [1.0, -2.0]]).double()
    b, r = torch.tensor([4.0, 2.0]).double(), torch.tensor([[12.0, 5.0]]).double()
    if by == "reference":
        found = rules.linear_gamma(x, w, b, r, 1.0)
    else:
        found = relevance(aten.linear, F.linear(x, w, b), r, x, w, b, gamma=1.0)
    assert found[0].tolist() == pytest.approx([6 - 1, -2 + 8])


LAYERS: dict[str, tuple[Any, Callable[..., Tensor], tuple[int, ...], tuple[int, ...], tuple[Any, ...]]] = {
    "linear": (aten.linear, F.linear, (5, 7), (6, 7), ()),
    "convolution": (aten.conv2d, F.conv2d, (2, 3, 7, 6), (6, 3, 3, 2), ([2, 1], [1, 0])),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("gamma", [0.05, 0.25, 10.0])
def test_the_bias_takes_its_share_and_no_more(name: str, gamma: float) -> None:
    """Of every output it takes (b + gamma b+) / (y + gamma (sum f+ + b+)), with b- and f- where y < 0."""
    op, layer, shape, of_weight, geometry = LAYERS[name]
    x, w, b, r = random(*shape), random(*of_weight, seed=1), random(6, seed=2), random(1, seed=3)
    y = layer(x, w, b, *geometry)
    r = random(*y.shape, seed=3)
    bias = b if name == "linear" else b[:, None, None]
    plus, minus = (layer(x.clamp(min=0), part, None, *geometry) for part in (w.clamp(min=0), w.clamp(max=0)))
    negative_plus, negative_minus = (
        layer(x.clamp(max=0), part, None, *geometry) for part in (w.clamp(max=0), w.clamp(min=0))
    )
    agreeing = torch.where(y > 0, plus + negative_plus, minus + negative_minus)
    agreeing_bias = torch.where(y > 0, bias.clamp(min=0), bias.clamp(max=0))
    taken = (bias + gamma * agreeing_bias) / (y + gamma * (agreeing + agreeing_bias)) * r
    kept = relevance(op, y, r, x, w, b, *geometry, gamma=gamma).sum()
    assert float(kept) == pytest.approx(float((r - taken).sum()), rel=1e-10)
    assert abs(float(taken.sum())) > 1e-3
    without = layer(x, w, None, *geometry)
    kept = relevance(op, without, r, x, w, None, *geometry, gamma=gamma).sum()
    assert float(kept) == pytest.approx(float(r.sum()), rel=1e-10)


def test_constants_of_their_own() -> None:
    """Each is of its own op alone, and 0 is the plain rule."""
    plain, of_conv, of_linear = attnlrp(), attnlrp(gamma_conv=0.25), attnlrp(gamma_linear=0.25)
    assert plain[aten.conv2d] is of_linear[aten.conv2d] is GRADIENT[aten.conv2d] is not of_conv[aten.conv2d]
    assert plain[aten.linear] is of_conv[aten.linear] is GRADIENT[aten.linear] is not of_linear[aten.linear]
    assert all(plain[op] == of_conv[op] for op in (aten.softmax, aten.add))


PUBLISHED = (
    (0.11441448192329123, 0.019466239291739733, -0.06709903230708268, 0.010577981035508808),
    (0.09597292088654016, -0.02744675535852179, -0.042977579381051886, -0.0653574930691688),
    (0.025021317525513974, -0.04534224044030845, 0.026753655719451448, 0.01435874281632959),
    (0.0467526049744244, 0.10035609447206192, -0.008386641844128778, -0.034542910099637184),
)
"""Sums over the patches of what LXT 2.1 and zennit 0.5.1 give for the model and image of the test below.

That is LXT's recipe for torchvision's ViTs (`cp_LRP`, examples/vit_torch.py): zennit's Gamma(0.25) on nn.Conv2d and
Gamma(0.05) on nn.Linear, in float64, with the stabilizer 1e-12. Its hooks do not reach attention's projections.
"""


def test_the_published_recipe() -> None:
    model = OTHERS["torchvision"]().double().eval()
    variants.randomise(model)
    x = images()[:1]

    def patches(**gammas: float) -> Tensor:
        graph = fuse(model, x, ["pixel_cp_lrp"], **gammas)
        heatmap = graph(x, torch.tensor([[1]]))["pixel_cp_lrp"][0, 0]
        return heatmap.unflatten(0, (4, 8)).unflatten(-1, (4, 8)).sum((1, 3))

    published = torch.tensor(PUBLISHED, dtype=torch.float64)
    scale = float(published.abs().max())
    assert float((patches(gamma_conv=0.25, gamma_linear=0.05) - published).abs().max()) <= 1e-7 * scale
    everywhere = patches(gamma_conv=0.25, gamma_linear=0.05, gamma_attention=0.05)
    assert float((everywhere - published).abs().max()) > 0.1 * scale
