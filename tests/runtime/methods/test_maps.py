"""The methods of METHODS.md beyond rollout and attribution, against tests/reference/maps.py: full float64 products."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from onnxplain.contract.layout import Layout
from onnxplain.runtime import METHODS, PASSES, OnnxplainError, comparable_methods
from onnxplain.runtime.methods.choice import find_method
from tests.helpers.method_inputs import HEADS, LAYERS, LAYOUTS, SIZE, apply, metadata_of, tensors_of
from tests.reference import maps

NAMES = list(LAYOUTS)
LAYER_NUMBERS = [*range(LAYERS), -1, -LAYERS]


def _check(name, reference, layout, tolerance=1e-8, **parameters):
    """The method equals the reference, which takes the tensors of the method's passes by name."""
    layout = LAYOUTS[layout]
    tensors = tensors_of(layout, seed=3)
    place = {"readout": layout.readout_row(), "prefix": layout.prefix_tokens, "grid": layout.patch_grid}
    expected = reference(**{item: tensors[item] for item in METHODS[name].passes}, **place, **parameters)
    given = apply(name, tensors, layout, **parameters)
    assert given.shape == layout.patch_grid and given.dtype == np.float64
    np.testing.assert_allclose(given, expected, rtol=0, atol=tolerance)
    return given


@pytest.mark.parametrize(("layout", "norm", "start_layer"), list(product(NAMES, ["l1", "l2"], [0, 2, LAYERS - 1])))
def test_gmar(layout, norm, start_layer):
    _check("gmar", maps.gmar, layout, norm=norm, start_layer=start_layer)


def test_gmar_norms_differ_and_without_gradient_it_is_rollout():
    layout = LAYOUTS["cls"]
    tensors = tensors_of(layout)
    assert not np.allclose(apply("gmar", tensors, layout, norm="l1"), apply("gmar", tensors, layout, norm="l2"))
    tensors["gradient"][:] = 0
    np.testing.assert_allclose(apply("gmar", tensors, layout), apply("rollout", tensors, layout), atol=1e-12)


@pytest.mark.parametrize(("layout", "layer"), list(product(NAMES, LAYER_NUMBERS)))
def test_single_layers(layout, layer):
    _check("raw_attention", maps.raw_attention, layout, layer=layer)
    _check("last_layer", maps.last_layer, layout, layer=layer)
    _check("last_layer_gradient", maps.last_layer, layout, layer=layer)


@pytest.mark.parametrize("layout", NAMES)
def test_attention_gradcam(layout):
    _check("attention_gradcam", maps.attention_gradcam, layout)


@pytest.mark.parametrize(("layout", "start_layer"), list(product(NAMES, [0, 1, LAYERS - 1])))
def test_accumulated(layout, start_layer):
    _check("generic_attention", maps.generic_attention, layout, start_layer=start_layer)
    _check("relevance_rollout", maps.relevance_rollout, layout, start_layer=start_layer)


@pytest.mark.parametrize(("layout", "layers"), list(product(NAMES, [0, 1, 2, LAYERS])))
def test_legrad(layout, layers):
    place, tensors = LAYOUTS[layout], tensors_of(LAYOUTS[layout])
    given = apply("legrad", tensors, place, layers=layers)
    expected = np.zeros(place.patch_grid)
    for layer in tensors["layer_gradient"][LAYERS - (layers or LAYERS) :]:
        for patch in range(place.patch_grid[0] * place.patch_grid[1]):
            column = layer[:, :, place.prefix_tokens + patch]
            expected[divmod(patch, place.patch_grid[1])] += np.where(column > 0, column, 0).mean()
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-12)


def test_maps_that_the_graph_itself_works_out():
    layout = LAYOUTS["cls and registers"]
    tensors = tensors_of(layout)
    for name, output in (("attnlrp", "pixel_attnlrp"), ("cp_lrp", "pixel_cp_lrp"), ("full", "pixel_relevance")):
        np.testing.assert_array_equal(apply(name, tensors, layout), tensors[output])
    np.testing.assert_array_equal(apply("vit_reciprocam", tensors, layout), tensors["reciprocam"])


def test_gradients_of_pixels():
    tensors = tensors_of(LAYOUTS["cls"])
    plain, times_input = np.zeros(SIZE), np.zeros(SIZE)
    for channel in range(3):
        plain += tensors["pixel_gradient"][channel]
        times_input += tensors["pixels"][channel] * tensors["pixel_gradient"][channel]
    np.testing.assert_allclose(apply("gradient", tensors, LAYOUTS["cls"]), plain, atol=1e-12)
    np.testing.assert_allclose(apply("input_x_gradient", tensors, LAYOUTS["cls"]), times_input, atol=1e-12)


@pytest.mark.parametrize("layout", NAMES)
def test_attention_flow(layout):
    pytest.importorskip("scipy")
    flow = _check("attention_flow", maps.attention_flow, layout, tolerance=1e-7)
    assert flow.min() > 0 and flow.max() <= 1 + 1e-8


def test_attention_flow_by_hand():
    """CLS and two patches, three layers; all attention of CLS is to itself, but at the bottom to the first patch."""
    pytest.importorskip("scipy")
    bottom, middle, top = np.eye(3)[[1, 1, 2]], np.eye(3), np.eye(3)
    attention = np.stack([bottom, middle, top])[:, None]
    layout = Layout((0,), 1, (1, 2))
    given = _flow(attention.mean(axis=1), layout)
    np.testing.assert_allclose(given, [[0.5, 0.0]], atol=1e-9)  # the other half of CLS is its residual
    np.testing.assert_allclose(given, maps.attention_flow(attention, layout.readout_row(), 1, (1, 2)), atol=1e-9)


def _flow(attention, layout):
    return METHODS["attention_flow"].function(attention, layout.readout_row(), layout)


@pytest.mark.parametrize("seed", range(4))
def test_attention_flow_of_sharp_attention(seed):
    pytest.importorskip("scipy")
    layout = LAYOUTS["mean of patches after cls"]
    scores = 6 * np.random.default_rng(seed).normal(size=(LAYERS, HEADS, layout.tokens, layout.tokens))
    attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = maps.attention_flow(attention, layout.readout_row(), layout.prefix_tokens, layout.patch_grid)
    np.testing.assert_allclose(_flow(attention.mean(axis=1), layout), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("raw_attention", {"layer": LAYERS}, r"`layer` must be .* \(this model has layers 0 to 3\), got 4"),
        ("raw_attention", {"layer": -LAYERS - 1}, "`layer` must be .*-1, -2, .*got -5"),
        ("last_layer", {"layer": 0.0}, "`layer` must be"),
        ("last_layer", {"start_layer": 0}, "has no parameter `start_layer`; it has: `layer`"),
        ("gmar", {"norm": "l3"}, "`norm` must be one of l1, l2, got 'l3'"),
        ("gmar", {"norm": 1}, "`norm` must be"),
        ("attention_gradcam", {"layer": 0}, "has no parameter `layer`; it has none"),
        ("legrad", {"layers": LAYERS + 1}, r"how many of the last layers .* \(this model has 4\), got 5"),
        ("legrad", {"layers": -1}, "`layers` must be"),
        ("integrated_gradients", {"steps": 0}, "`steps` must be an integer of at least 1, got 0"),
        ("integrated_gradients", {"steps": 1.5}, "`steps` must be"),
        ("integrated_gradients", {"baseline": "white"}, "`baseline` must be one of black, mean, got 'white'"),
        ("smoothgrad", {"samples": 0}, "`samples` must be"),
        ("smoothgrad", {"noise": -0.1}, "`noise` must be a finite number of at least 0, got -0.1"),
        ("smoothgrad", {"noise": float("inf")}, "`noise` must be"),
        ("smoothgrad", {"seed": -1}, "`seed` must be an integer of at least 0, got -1"),
        ("rise", {"masks": 0}, "`masks` must be"),
        ("rise", {"cells": 0}, "`cells` must be"),
        ("rise", {"cells": 257}, "`cells` must be an integer from 1 to 256"),
        ("rise", {"cells": True}, "`cells` must be"),
        ("rise", {"probability": 0}, "`probability` must be a number above 0 and at most 1, got 0"),
        ("rise", {"probability": float("nan")}, "`probability` must be"),
    ],
)
def test_bad_parameters(method, parameters, message):
    with pytest.raises(OnnxplainError, match=message) as error:
        METHODS[method].arguments(parameters, LAYERS)
    assert "\n" not in str(error.value)


def test_every_pass_alone_is_enough_for_what_needs_no_other():
    assert find_method(None, metadata_of(("attention", "relevance"))).name == "rollout"
    assert find_method("last_layer", metadata_of(("attention", "relevance"))).passes == ("relevance",)


def test_methods_to_compare(monkeypatch):
    pytest.importorskip("scipy")
    every = tuple(PASSES)
    methods, left_out = comparable_methods(metadata_of(every, (8, 8)))
    assert [item.name for item in methods] == list(METHODS) and not left_out
    methods, left_out = comparable_methods(metadata_of(every, (14, 14)))
    assert list(left_out) == ["rise"] and "197 tokens" in left_out["rise"]
    methods, left_out = comparable_methods(metadata_of(every, (37, 37)))
    assert list(left_out) == ["vit_reciprocam", "attention_flow", "rise"]
    assert "slow with 1370 tokens" in left_out["attention_flow"] and len(methods) == len(METHODS) - 3
    monkeypatch.setitem(sys.modules, "scipy", None)
    methods, left_out = comparable_methods(metadata_of(("attention",)))
    enough = [name for name, method in METHODS.items() if set(method.passes) <= {"attention"}]
    assert [item.name for item in methods] == [name for name in enough if name != "attention_flow"]
    assert left_out == {"attention_flow": "it needs scipy: pip install 'onnxplain[flow]'"}
    with pytest.raises(OnnxplainError, match=r"attention_flow cannot run here: it needs scipy: pip install 'onn"):
        find_method("attention_flow", metadata_of(every))


def test_the_runtime_imports_scipy_only_for_flow():
    code = "import sys, onnxplain.runtime; print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
