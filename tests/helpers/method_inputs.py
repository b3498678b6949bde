"""Random outputs of a graph, and the methods' functions called with them."""

import numpy as np

from onnxplain.contract import Metadata, Preprocessing
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


def metadata_of(passes, grid=(4, 4)):
    """Those of an artifact with these passes, a class token and that many patches."""
    preprocessing = Preprocessing((16 * grid[0], 16 * grid[1]), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    checkpoint = {"source": "random", "sha256": None}
    return Metadata(
        "vit", checkpoint, preprocessing, ("ant", "bee"), "softmax", grid, 1, (0,), LAYERS, HEADS, 8, 32, tuple(passes)
    )


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
    tokens = {"layout": layout, "readout": layout.readout_row()}
    context = {"pixels": outputs["pixels"].astype(np.float64)} if method.pixel_level else tokens
    return method.function(*(outputs[item] for item in names), **context, **rest)


def apply(name, tensors, layout, **parameters):
    return call(name, tensors | reductions(tensors, layout), layout, **parameters)
