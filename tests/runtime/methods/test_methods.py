"""Every method against a slow textbook version: float64, explicit loops, full N x N products."""

from itertools import product

import numpy as np
import pytest

from onnxplain.contract.outputs import OUTPUTS, PASSES
from onnxplain.runtime import METHODS, OnnxplainError, available_methods
from onnxplain.runtime.methods.choice import find_method
from tests.helpers.method_inputs import HEADS, LAYERS, LAYOUTS, SIZE, apply, call, metadata_of, tensors_of
from tests.helpers.slow_reductions import reductions

ONE_RUN = [name for name, method in METHODS.items() if method.runs is None]


def _fuse(layer, head_fusion):
    n = layer.shape[-1]
    fused = np.empty((n, n))
    for i, j in product(range(n), repeat=2):
        values = [layer[h, i, j] for h in range(len(layer))]
        fused[i, j] = {"mean": sum(values) / len(values), "max": max(values), "min": min(values)}[head_fusion]
    return fused


def _discard_slowly(matrix, ratio, prefix_tokens):
    n = len(matrix)
    order = sorted((matrix[i, j], i, j) for i, j in product(range(n), repeat=2))
    for _, i, j in order[: int(np.floor(ratio * n * n))]:
        if not (prefix_tokens > 0 and (i == 0 or j == 0)):
            matrix[i, j] = 0.0
    return matrix


def _read(total, layout):
    e = np.zeros(layout.tokens)
    for token in layout.readout:
        e[token] += 1 / len(layout.readout)
    return (e @ total)[layout.prefix_tokens :].reshape(layout.patch_grid)


def _rollout_slowly(layers, layout, discard_ratio, start_layer):
    total = np.eye(layout.tokens)
    for fused in layers[start_layer:]:
        matrix = _discard_slowly(fused.copy(), discard_ratio, layout.prefix_tokens) + np.eye(layout.tokens)
        total = matrix / matrix.sum(axis=1, keepdims=True) @ total
    return _read(total, layout)


GRID = list(product(LAYOUTS, ["mean", "max", "min"], [0.0, 0.3, 0.9, 0.99], [0, 2, LAYERS - 1]))


@pytest.mark.parametrize(("layout", "head_fusion", "discard_ratio", "start_layer"), GRID)
def test_rollouts(layout, head_fusion, discard_ratio, start_layer):
    layout = LAYOUTS[layout]
    tensors = tensors_of(layout)
    fused = {
        "rollout": [_fuse(layer, head_fusion) for layer in tensors["attention"]],
        "grad_rollout": [
            np.maximum(_fuse(g * a, head_fusion), 0)
            for g, a in zip(tensors["gradient"], tensors["attention"], strict=True)
        ],
    }
    for name, layers in fused.items():
        given = apply(
            name, tensors, layout, head_fusion=head_fusion, discard_ratio=discard_ratio, start_layer=start_layer
        )
        expected = _rollout_slowly(layers, layout, discard_ratio, start_layer)
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("start_layer", [0, 1, LAYERS - 1])
def test_transformer_attribution(layout, start_layer):
    layout = LAYOUTS[layout]
    tensors = tensors_of(layout)
    total = np.eye(layout.tokens)
    for g, r in list(zip(tensors["gradient"], tensors["relevance"], strict=True))[start_layer:]:
        product_ = np.zeros((layout.tokens, layout.tokens))
        for h in range(HEADS):
            product_ += np.where(g[h] * r[h] > 0, g[h] * r[h], 0.0) / HEADS
        total = (np.eye(layout.tokens) + product_) @ total
    given = apply("transformer_attribution", tensors, layout, start_layer=start_layer)
    np.testing.assert_allclose(given, _read(total, layout), rtol=1e-12, atol=1e-10)


def test_ties_are_discarded_by_position():
    layout = LAYOUTS["mean of patches"]
    tensors = tensors_of(layout)
    tensors["attention"] = np.full_like(tensors["attention"], 1 / layout.tokens)
    expected = _rollout_slowly([layer[0] for layer in tensors["attention"]], layout, 0.5, 0)
    np.testing.assert_allclose(apply("rollout", tensors, layout, discard_ratio=0.5), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ONE_RUN)
def test_inputs_are_not_changed_and_float32_is_close(name):
    layout = LAYOUTS["cls"]
    tensors = tensors_of(layout)
    tensors |= reductions(tensors, layout)
    copies = {key: value.copy() for key, value in tensors.items()}
    parameters = {"discard_ratio": 0.4} if "discard_ratio" in METHODS[name].arguments({}, LAYERS) else {}
    exact = call(name, tensors, layout, **parameters)
    for key, value in tensors.items():
        np.testing.assert_array_equal(value, copies[key])
    single = call(name, {key: value.astype(np.float32) for key, value in tensors.items()}, layout, **parameters)
    np.testing.assert_allclose(single, exact, rtol=1e-5, atol=1e-6)
    assert exact.shape == (SIZE if METHODS[name].pixel_level else layout.patch_grid)
    assert exact.dtype == single.dtype == np.float64
    assert not any(np.shares_memory(exact, value) for value in tensors.values())


@pytest.mark.parametrize("name", METHODS)
def test_table_rows_are_complete(name):
    method = METHODS[name]
    assert method.name == name and set(method.passes) <= set(PASSES) and method.summary and method.reference
    assert "\n" not in method.summary and method.summary[-1] != "."
    arguments = method.arguments({}, 1)
    assert set(method.bind(arguments)[0]) <= set(OUTPUTS) and (method.runs is None or method.runs in arguments)
    for parameter in method.parameters:
        assert parameter.check(parameter.default, 1) and isinstance(parameter.default, parameter.type)
        assert parameter.summary and parameter.valid.format(layers=1, last=0)


def test_passes_follow_from_outputs():
    expected = {
        "transformer_attribution": ("gradient", "relevance"),
        "legrad": ("layer_gradient",),
        "grad_rollout": ("attention", "gradient"),
        "generic_attention": ("attention", "gradient"),
        "attnlrp": ("pixel_attnlrp",),
        "cp_lrp": ("pixel_cp_lrp",),
        "full": ("pixel_relevance",),
        "vit_reciprocam": ("reciprocam",),
        "gmar": ("attention", "gradient"),
        "attention_gradcam": ("attention", "gradient"),
        "rollout": ("attention",),
        "attention_flow": ("attention",),
        "raw_attention": ("attention",),
        "relevance_rollout": ("relevance",),
        "last_layer": ("relevance",),
        "last_layer_gradient": ("gradient", "relevance"),
        "integrated_gradients": ("pixel_gradient",),
        "smoothgrad": ("pixel_gradient",),
        "input_x_gradient": ("pixel_gradient",),
        "gradient": ("pixel_gradient",),
        "rise": (),
    }
    assert {name: method.passes for name, method in METHODS.items()} == expected
    same_for_every_class = {name for name, passes in expected.items() if passes == ("attention",)}
    assert {name for name, method in METHODS.items() if not method.per_target} == same_for_every_class
    for method in METHODS.values():  # whatever a parameter chooses, it needs the same passes
        for parameter in method.parameters:
            for value in ("mean", "max", "min", "l1", "l2"):
                if parameter.type is str and parameter.check(value, 1):
                    outputs, rest = method.bind(method.arguments({parameter.name: value}, 1))
                    assert {name for item in outputs for name in OUTPUTS[item].passes} == set(method.passes)
                    assert parameter.name not in rest or parameter.name == "baseline"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"head_fusion": "median"}, "`head_fusion` must be one of mean, max, min, got 'median'"),
        ({"discard_ratio": 1.0}, "`discard_ratio` must be a number of at least 0 and below 1, got 1.0"),
        ({"discard_ratio": -0.1}, "discard_ratio"),
        ({"discard_ratio": float("nan")}, "discard_ratio"),
        ({"discard_ratio": "0.5"}, "discard_ratio"),
        ({"start_layer": LAYERS}, r"`start_layer` must be .*layers 0 to 3.*got 4"),
        ({"start_layer": -1}, "start_layer"),
        ({"start_layer": 1.5}, "start_layer"),
        ({"start_layer": True}, "`start_layer` must be .* got True"),
        ({"colour": 1}, "no parameter `colour`; it has: `head_fusion`, `discard_ratio`, `start_layer`"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(OnnxplainError, match=message):
        METHODS["rollout"].arguments(parameters, LAYERS)


def test_method_for_passes():
    assert find_method(None, metadata_of(("attention", "gradient", "relevance"))).name == "transformer_attribution"
    assert find_method(None, metadata_of(("attention", "gradient"))).name == "grad_rollout"
    assert find_method(None, metadata_of(("attention", "layer_gradient"))).name == "legrad"
    assert find_method(None, metadata_of(tuple(PASSES))).name == "transformer_attribution"
    assert find_method(None, metadata_of(("attention",))).name == "rollout"
    for passes in (("attention",), ("attention", "relevance")):
        enough = [name for name, method in METHODS.items() if set(method.passes) <= set(passes)]
        assert [item.name for item in available_methods(metadata_of(passes))] == enough and "rise" in enough
    with pytest.raises(OnnxplainError, match="there is no method 'magic'; there are: transformer_attribution, "):
        find_method("magic", metadata_of(("attention",)))
    with pytest.raises(
        OnnxplainError,
        match=r"needs the pass gradient and relevance, this artifact has: attention; .*"
        "`passes` attention,gradient,relevance, or use one of: rollout",
    ):
        find_method("transformer_attribution", metadata_of(("attention",)))
