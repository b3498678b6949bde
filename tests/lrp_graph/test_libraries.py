"""Classifiers of other libraries, as they come: the fused graph against autograd on the unmodified model.

In float32 where a library's own attention computes its softmax in that.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from onnxplain.export.verify.autograd_reference import BY_AUTOGRAD, eager_outputs
from onnxplain.lrp_graph import fuse
from tests.helpers.graph_checks import images, worst
from tests.helpers.libraries import OTHERS, SMALL, TRANSFORMERS, Wrapped
from tests.reference import variants

OTHER_HEADS = ("DeiT, two heads", "CLIP, classifier", "SigLIP, classifier")


def _cases() -> Iterator[Any]:
    for implementation in ("sdpa", "eager"):
        for name, build in TRANSFORMERS.items():
            single = implementation == "eager"
            # The same models with their attention in another form, or with another head
            slow = name not in ("ViT", "Dinov2") if single else name in OTHER_HEADS
            options, marks = {"attn_implementation": implementation}, [pytest.mark.slow] * slow
            yield pytest.param(build, options, single, id=f"{name}, {implementation}", marks=marks)
    for name, plain in OTHERS.items():
        yield pytest.param(plain, {}, False, id=name)


@pytest.mark.parametrize(("build", "options", "single"), list(_cases()))
def test_library(build: Callable[..., nn.Module], options: dict[str, Any], single: bool) -> None:
    torch.manual_seed(0)
    model = build(**options).eval()
    variants.randomise(model)
    model = model if single else model.double()
    pixels = images().float() if single else images()
    graph = fuse(model, pixels[:1])
    assert graph.left_out == {} and graph.layout.patch_grid == (4, 4)
    target = torch.tensor([[0, 3], [1, 2], [4, 0]])
    found = graph(pixels, target)
    assert all(value.isfinite().all() for value in found.values())
    names = ("logits", "attention", "attention_gradient", "pixel_gradient", "pool_attention_gradient")
    expected = eager_outputs(model, pixels, target, graph.layout, BY_AUTOGRAD.intersection(graph.names, names))
    assert expected.keys() == BY_AUTOGRAD.intersection(graph.names, names)
    for name, value in expected.items():
        assert worst(found[name], value, 0) <= (1e-4 if single else 1e-9), name


def test_a_model_that_draws_random_numbers_has_no_answer() -> None:
    model = Wrapped(hf.ViTMAEModel(hf.ViTMAEConfig(**SMALL)), lambda output: output.last_hidden_state[:, 0], True)
    with pytest.raises(ValueError, match="draws random numbers"):
        fuse(model, images()[:1].float())
