"""The class that a target stands for: the graph resolves ranks, and of equal logits the lower index leads."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from onnxplain.export import export_model
from onnxplain.runtime import Explainer, RunError
from tests.helpers import export_cases
from tests.helpers.command_line import random_image
from tests.helpers.tiny_artifact import LABELS, build, save

IMAGES = [random_image(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A model whose classes 1, 2 and 4 read one feature with the same weight, and so have the same logits.

    Of several features, a product may add up those of each class in another order.
    """
    model = export_cases.build("plain")
    with torch.no_grad():
        model.head.weight[1, 1:] = 0
        for row in (2, 4):
            model.head.weight[row] = model.head.weight[1]
            model.head.bias[row] = model.head.bias[1]
    path = tmp_path_factory.mktemp("tied") / "x.onnx"
    export_model(
        model,
        path,
        labels=export_cases.LABELS,
        preprocessing=export_cases.preprocessing(model),
        passes=["gradient"],
    )
    return Explainer(path, "cpu", threads=1)


def test_equal_logits_end_to_end(tied):
    """Each rank has a class of its own, in the order of the predictions; its map is that of the class by its index."""
    for image in IMAGES:
        logits = tied.tensors(image, 0)["logits"][0]
        assert logits[1] == logits[2] == logits[4]
        expected = sorted(range(5), key=lambda index: (-logits[index], index))
        results = tied.explain(image, [-1, -2, -3, -4, -5], "grad_rollout")
        assert [item.target for item in results] == expected
        assert [item.label for item in results] == [export_cases.LABELS[index] for index in expected]
        assert [index for index, _, _ in results[0].predictions] == expected
        for item in results:
            single = tied.explain(image, item.target, "grad_rollout")
            np.testing.assert_allclose(item.heatmap, single.heatmap, rtol=1e-4, atol=1e-7)
            assert item.score == pytest.approx(single.score, rel=1e-5)


def test_the_class_is_what_the_graph_says(tmp_path):
    """Not what the logits say once more: a graph that resolves all ranks to class 3 is believed."""
    path = build(tmp_path / "x.onnx")
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if "class_index" in node.output)
    node.input[1] = "three"
    model.graph.initializer.append(numpy_helper.from_array(np.array([[3]]), "three"))
    save(model, path)
    explainer = Explainer(path, "cpu")
    assert [item.label for item in explainer.explain(IMAGES[0], [-1, 0, -2])] == [LABELS[3], LABELS[0], LABELS[3]]
    many = explainer.explain_many(IMAGES, -1, batch_size=3)
    assert [item.target for item in many] == [3, 3, 3]


@pytest.mark.parametrize("index", [-1, 6, 2**40])
def test_a_class_that_there_is_not(index, tmp_path):
    path = build(tmp_path / "x.onnx")
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if "class_index" in node.output)
    node.input[1] = "wrong"
    model.graph.initializer.append(numpy_helper.from_array(np.array([[index]]), "wrong"))
    save(model, path)
    with pytest.raises(RunError, match=rf"the artifact gave the classes \[{index}\], and has 0 to 5"):
        Explainer(path, "cpu").explain(IMAGES[0], -1)
