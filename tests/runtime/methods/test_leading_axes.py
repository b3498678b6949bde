"""The functions of maps on tensors with axes of batch and targets: as on arrays of one image and target."""

import numpy as np
import pytest
import torch

from onnxplain.runtime import METHODS
from onnxplain.runtime.methods.attention_maps import array_namespace
from tests.helpers.method_inputs import LAYERS, LAYOUTS, call, tensors_of
from tests.helpers.slow_reductions import reductions

IN_GRAPH = [name for name, method in METHODS.items() if method.in_graph]
CHOICES = {
    "discard_ratio": (0.0, 0.35, 0.9),
    "start_layer": (0, 2, LAYERS - 1),
    "layer": (-1, 0),
    "layers": (0, 1),
    "head_fusion": ("mean", "max"),
    "norm": ("l1", "l2"),
}
BATCH, TARGETS = 2, 3


def _settings(method):
    """The defaults, and each parameter with its other values."""
    yield {}
    for parameter in method.parameters:
        yield from ({parameter.name: value} for value in CHOICES[parameter.name][1:])


def _samples(layout, ties):
    """For each image and target the outputs of the graph; those that no target changes are the image's."""
    images = [tensors_of(layout, seed) for seed in range(BATCH)]
    found = []
    for number, image in enumerate(images):
        row = []
        for column in range(TARGETS):
            other = tensors_of(layout, 10 + TARGETS * number + column)
            tensors = {**other, "attention": image["attention"], "pixels": image["pixels"]}
            if ties:  # few different values, so that the threshold of discard_ratio lies among equal ones
                tensors = {name: np.round(values * 3) / 3 for name, values in tensors.items()}
            row.append(tensors | reductions(tensors, layout))
        found.append(row)
    return found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("layout", ["cls", "cls and registers", "mean of patches"])
@pytest.mark.parametrize("name", IN_GRAPH)
def test_tensors_of_many_images_and_targets(name, layout, ties):
    layout, method = LAYOUTS[layout], METHODS[name]
    samples = _samples(layout, ties)
    for parameters in _settings(method):
        outputs, _ = method.bind(method.arguments(parameters, LAYERS))
        stacked = {
            output: torch.from_numpy(np.stack([np.stack([sample[output] for sample in row]) for row in samples]))
            for output in (*outputs, "pixels")
        }
        given = _on_tensors(method, stacked, layout, parameters)
        assert given.dtype == torch.float64 and given.shape[:2] == (BATCH, TARGETS)
        for image, row in enumerate(samples):
            for column, sample in enumerate(row):
                expected = call(name, sample, layout, **parameters)
                np.testing.assert_allclose(given[image, column], expected, rtol=0, atol=1e-12)


def _on_tensors(method, stacked, layout, parameters):
    names, rest = method.bind(method.arguments(parameters, LAYERS))
    readout = torch.from_numpy(layout.readout_row())
    context = {"pixels": stacked["pixels"]} if method.pixel_level else {"layout": layout, "readout": readout}
    return method.function(*(stacked[item] for item in names), **context, **rest)


def test_a_readout_row_for_each_target():
    """That of an attention pool."""
    layout = LAYOUTS["cls"]
    samples = _samples(layout, ties=False)[0]
    rows = np.random.default_rng(5).random((TARGETS, layout.tokens))
    matrices = np.stack([sample["gradient_relevance_positive"] for sample in samples])
    given = METHODS["transformer_attribution"].function(matrices, readout=rows, layout=layout, start_layer=1)
    for target in range(TARGETS):
        row = rows[target]
        for matrix in matrices[target, :0:-1]:
            row = row @ (np.eye(layout.tokens) + matrix)
        np.testing.assert_allclose(given[target], layout.patches(row), rtol=1e-12)


def test_the_namespaces():
    assert array_namespace(np.zeros(1)) is np
    assert array_namespace(torch.zeros(1)).__name__ == "array_api_compat.torch"
