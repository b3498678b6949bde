"""All outputs of the fused graph at once: their shapes, batches and targets side by side, and what is computed."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxplain.contract import PASSES, REDUCTIONS
from onnxplain.contract.outputs import ALWAYS, OUTPUTS
from onnxplain.lrp_graph import ALL, FORWARD_ONLY, FusedGraph, MissingRuleError, fuse
from onnxplain.lrp_graph import passes as table
from onnxplain.lrp_graph.reverse import reverse_each
from onnxplain.lrp_graph.trace.rewrite import ancestors
from tests.helpers.graph_checks import BATCH, PER_IMAGE, TARGET, Hand, assert_same, fused, images, sdpa
from tests.reference import variants

VARIANTS = (
    *("plain", "distilled", "registers", "mean_pool_no_class", "non_square"),
    *("swiglu_packed", "parallel_scaling", "parallel_things"),
)


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    found = graph(pixels, TARGET)
    targets, size, (h, w) = TARGET.shape[1], pixels.shape[2:], model.patch_embed.grid_size
    lengths = {"layers": graph.layers, "heads": graph.heads, "tokens": graph.tokens, "channels": 3}
    lengths |= {"token_width": graph.token_width, "height": size[0], "width": size[1], "rows": h, "columns": w}
    assert tuple(found) == graph.names == (*ALWAYS, *(item.output for item in PASSES.values()), *REDUCTIONS)
    classes = found.pop("class_index")
    assert classes.shape == TARGET.shape and classes.dtype == torch.int64
    shapes = {output: value.shape[1 if output in PER_IMAGE else 2 :] for output, value in found.items()}
    assert shapes.pop("logits") == (variants.CLASSES,)
    for output, shape in shapes.items():
        assert shape == tuple(lengths[axis] for axis in OUTPUTS[output].axes), output
    for output, value in found.items():
        assert value.shape[: 1 if output in PER_IMAGE else 2] == (BATCH, targets)[: 1 if output in PER_IMAGE else 2]
        assert value.dtype == torch.float64 and not value.requires_grad and value.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
def test_batches_and_targets_are_single_runs_side_by_side(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    together = graph(pixels, TARGET)
    for image, place in ((0, 0), (0, 3), (1, 1), (1, 2), (2, 0)):
        here, there = slice(image, image + 1), slice(place, place + 1)
        part = {
            output: value[here] if output in PER_IMAGE else value[here, there] for output, value in together.items()
        }
        assert_same(graph(pixels[here], TARGET[here, there]), part)


@pytest.mark.parametrize("name", ["plain", "registers", "mean_pool", "parallel_things"])
def test_a_sample_does_not_feel_its_neighbours(name: str) -> None:
    model, graph = fused(name)
    pixels = variants.pixels(model, BATCH)
    others = torch.cat([pixels[:1], 100 * variants.pixels(model, 2, seed=5)])
    one, two = graph(pixels, TARGET), graph(others, torch.cat([TARGET[:1], TARGET[1:].flip(0)]))
    assert_same(*({output: value[:1] for output, value in found.items()} for found in (one, two)))


def test_ranks_are_classes_by_logit() -> None:
    model, graph = fused("deeper")
    pixels = variants.pixels(model, BATCH, seed=2)
    ranks = torch.tensor([[-1, -2, -3, -4, -5]]).expand(BATCH, -1)
    order = model(pixels).argsort(1, descending=True)
    assert not torch.equal(order[0], order[1])
    assert_same(graph(pixels, ranks), graph(pixels, order), 0)


# What is computed.

CHOSEN = ((), *((name,) for name in ALL), ("gradient", "relevance"))


@pytest.mark.parametrize("passes", CHOSEN, ids="+".join)
def test_passes_are_chosen(passes: Sequence[str]) -> None:
    model, complete = fused("registers")
    pixels = variants.pixels(model, BATCH)
    graph = fuse(model, pixels[:1], passes=passes)
    found = graph(pixels, TARGET)
    allowed = [name for name, item in REDUCTIONS.items() if {*item.passes} <= {"attention", *passes}]
    assert graph.passes == tuple(passes)
    assert tuple(found) == graph.names == (*ALWAYS, "attention", *(PASSES[name].output for name in passes), *allowed)
    assert_same(found, complete.compute(pixels, TARGET, graph.names), 0)


WHOLE = ("layer_gradient", "features")


def test_only_layer_gradients_and_features_need_the_whole_last_block() -> None:
    model, complete = fused("plain")
    graph = fuse(model, variants.pixels(model, 1), passes=[name for name in ALL if name not in WHOLE])
    assert graph._trace.full_logits not in graph._nodes and set(graph._nodes) <= ancestors(graph._trace.logits)
    assert complete._trace.full_logits in complete._nodes
    values = complete._interpret(variants.pixels(model, BATCH))
    torch.testing.assert_close(values[complete._trace.full_logits], values[complete._trace.logits])


PROPAGATIONS: dict[tuple[str, ...], int] = {
    ("logits", "attention", "attention_mean", "reciprocam", "features"): 0,
    ("attention_gradient", "pixel_gradient", "attention_gradcam"): 1,
    ("gradient_relevance_positive",): 2,
    ("pixel_relevance", "relevance_positive"): 1,
    ("pixel_attnlrp", "pixel_cp_lrp"): 2,
}


@pytest.mark.parametrize("names", PROPAGATIONS, ids="+".join)
def test_only_what_is_asked_for_is_computed(names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = fused("plain")
    pixels = variants.pixels(model, BATCH)
    expected = graph(pixels, TARGET)
    runs = []
    monkeypatch.setattr(table, "layer_gradients", lambda *_: pytest.fail("layer gradients were computed"))
    if "reciprocam" not in names:
        monkeypatch.setattr(table, "reciprocam", lambda *_: pytest.fail("reciprocam was computed"))
    monkeypatch.setattr(table, "reverse_each", lambda *args: runs.append(args) or reverse_each(*args))
    found = graph.compute(pixels, TARGET, names)
    assert len(runs) == PROPAGATIONS[names]
    assert tuple(found) == tuple(name for name in graph.names if name in names)
    assert_same(found, {name: expected[name] for name in found}, 0)


# Ops without rules.


def unknown(x: Tensor) -> Tensor:
    return torch.cumsum(torch.sin(x).flip(1).flip(2), -1).mean(1)


@pytest.mark.parametrize("name", [name for name in ALL if name not in FORWARD_ONLY])
def test_all_missing_rules_are_named_before_anything_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FusedGraph, "_interpret", lambda *_: pytest.fail("the graph was run"))
    model = Hand(sdpa, unknown).float()
    with pytest.raises(MissingRuleError) as caught:
        fuse(model, torch.zeros(1, 3, 32, 32), passes=[name])
    (message,) = str(caught.value).splitlines()
    assert message.startswith(f"the {name} pass has no rule for: ")
    for op in ("sin", "flip", "cumsum"):
        assert message.count(f"aten.{op} ") == message.count(f"aten.{op} (node {op}, shape (") == 1


@pytest.mark.parametrize("passes", [(), ("reciprocam",), ("features",)])
def test_the_layout_needs_rules_too(passes: Sequence[str]) -> None:
    with pytest.raises(MissingRuleError, match=r"tokens that the head reads has no rule for: aten\.sin .*aten\.cumsum"):
        fuse(Hand(sdpa, unknown).float(), torch.zeros(1, 3, 32, 32), passes=passes)


def test_only_passes_to_the_pixels_need_rules_before_the_first_attention() -> None:
    class Model(Hand):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(torch.cumsum(pixels, -1))

    model, pixels = Model(sdpa).float(), torch.zeros(1, 3, 32, 32)
    fuse(model, pixels, passes=[name for name in ALL if not name.startswith("pixel")])
    for name in ALL:
        if name.startswith("pixel"):
            with pytest.raises(MissingRuleError, match=rf"^the {name} pass has no rule for: aten\.cumsum [^;]*$"):
                fuse(model, pixels, passes=[name])


VARYING: dict[str, Callable[[Tensor], Tensor]] = {
    "pow": lambda x: (2.0**x).mean(1),
    "layer_norm": lambda x: F.layer_norm(x, (16,), x.mean((0, 1))).mean(1),
    "linear": lambda x: F.linear(x.mean(1), x.mean((0, 1)).expand(16, 16)),
}


@pytest.mark.parametrize("op", VARYING)
def test_rules_for_the_first_argument_serve_no_other(op: str) -> None:
    with pytest.raises(MissingRuleError, match=rf"has no rule for: aten\.{op} [^;]*$"):
        fuse(Hand(sdpa, VARYING[op]), images()[:1], ["gradient"])
