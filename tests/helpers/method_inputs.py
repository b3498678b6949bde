"""Random outputs of a graph, and the methods' functions called with them."""

import numpy as np

from onnxplain.contract.layout import Layout
from onnxplain.runtime import METHODS
from tests.helpers.slow_reductions import reductions

LAYERS, HEADS = 4, 3
LAYOUTS = {
    "cls": Layout((0,), 1, (4, 4)),
    "cls and registers": Layout((0,), 5, (3, 4)),
    "mean of patches": Layout(tuple(range(15)), 0, (3, 5)),
    "mean of patches after cls": Layout(tuple(range(1, 7)), 1, (2, 3)),
    "one patch": Layout((0,), 1, (1, 1)),
}


SIZE = (12, 20)


def tensors_of(layout, seed=0):
    """The raw outputs for one image and target, and `pixels`."""
    rng = np.random.default_rng(seed)
    shape = (LAYERS, HEADS, layout.tokens, layout.tokens)
    attention = rng.exponential(size=shape)
    return {
        "attention": attention / attention.sum(-1, keepdims=True),
        "gradient": rng.normal(size=shape),
        "relevance": rng.normal(size=shape),
        "layer_gradient": rng.normal(size=shape),
        "pixels": rng.normal(size=(3, *SIZE)),
        "pixel_gradient": rng.normal(size=(3, *SIZE)),
        "pixel_relevance": rng.normal(size=SIZE),
        "pixel_attnlrp": rng.normal(size=SIZE),
        "pixel_cp_lrp": rng.normal(size=SIZE),
        "reciprocam": rng.normal(size=layout.patch_grid),
    }


def call(name, outputs, layout, **parameters):
    """The method's map, from the graph's outputs and `pixels`."""
    method = METHODS[name]
    names, rest = method.bind(method.arguments(parameters, LAYERS))
    context = {"pixels": outputs["pixels"]} if method.pixel_level else {"layout": layout}
    return method.function(*(outputs[item] for item in names), **context, **rest)


def apply(name, tensors, layout, **parameters):
    return call(name, tensors | reductions(tensors, layout), layout, **parameters)
