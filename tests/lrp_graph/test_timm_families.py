"""One of timm's names for each thing its isotropic Vision Transformers do; `benchmarks/sweep.py` goes through all."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.sweep import DOUBLE, TARGET, build, check_conservation, check_outputs
from onnxplain.lrp_graph import fuse
from tests.helpers.graph_checks import worst
from tests.helpers.timm_families import FAMILIES
from tests.reference.pixels import neighbourhood


def small(name: str) -> tuple[nn.Module, Tensor]:
    model, size = build(name)
    return model.double(), torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _cases() -> Iterator[Any]:
    """The first name of each kind of model, and the others among what is slow."""
    for kind, names in FAMILIES.items():
        for place, name in enumerate(names):
            yield pytest.param(kind, name, marks=[pytest.mark.slow] * (place > 0))


@pytest.mark.parametrize(("kind", "name"), list(_cases()))
def test_name(kind: str, name: str) -> None:
    model, pixels = small(name)
    assert type(model).__name__ == kind
    graph = fuse(model, pixels[:1])
    check_outputs(model, graph, pixels, DOUBLE)
    check_conservation(graph, pixels)


@pytest.mark.parametrize("passes", [None, ("reciprocam",)])
def test_reciprocam_where_rows_of_a_position_bias_are_read(passes: tuple[str, ...] | None) -> None:
    model, pixels = small("vit_relpos_base_patch16_cls_224")
    graph = fuse(model, pixels[:1], passes)
    found = graph.compute(pixels, TARGET, {"reciprocam"})["reciprocam"]
    scores = []
    for patch in range(16):
        weights = torch.cat([torch.ones(1), neighbourhood(patch, (4, 4))]).to(pixels)[:, None]
        hook = model.blocks[-1].register_forward_pre_hook(lambda _, args, w=weights: (args[0] * w, *args[1:]))
        with torch.no_grad():
            scores.append(model(pixels).gather(1, TARGET))
        hook.remove()
    expected = torch.stack(scores, -1).unflatten(-1, (4, 4))
    assert worst(found, expected, 0) <= 1e-12 and expected.std(-1).min() > 1e-6
