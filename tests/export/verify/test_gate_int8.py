"""The gate on artifacts with products in int8: equal to their graph, and not too far from exact products."""

import pytest

from onnxplain.export import GateError, export_model
from onnxplain.export.verify.limits import EQUAL, IN_FLOAT32, OF_INT8, OF_PRODUCTS
from onnxplain.lrp_graph.rules import products
from onnxplain.runtime import Explainer
from tests.helpers.export_cases import LABELS, build, preprocessing

GRADIENTS = {"attention_gradient", "pixel_gradient", "layer_gradient"}


def _export(path, **options):
    model = build("plain")
    return export_model(model, path, precision="int8", labels=LABELS, preprocessing=preprocessing(model), **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifacts") / "int8.onnx"
    return _export(path), path


def test_each_output_equals_its_graph_and_what_int8_changes_is_told(exported):
    report, _ = exported
    rows = {(row.output, row.check): row for row in report.rows}
    assert report.passed and not report.notes
    told = {output for output, check in rows if check == OF_INT8}
    assert told >= GRADIENTS | {"relevance", "pixel_relevance"} and told.isdisjoint({"logits", "attention"})
    assert all(rows[name, EQUAL].limit == 1e-7 for name in GRADIENTS), "autograd is not what they are compared with"
    assert all(rows[name, EQUAL].limit == 1e-5 for name in ("logits", "attention"))
    assert all(1e-4 < rows[name, OF_INT8].value < 0.1 for name in GRADIENTS)
    assert all(check in (EQUAL, IN_FLOAT32, OF_INT8, OF_PRODUCTS) for _, check in rows if _ != "class_index")
    assert 1e-3 < rows["products in int8", OF_PRODUCTS].value < 0.1


def test_the_resolution_of_maps_is_that_of_int8(exported):
    _, path = exported
    metadata = Explainer(path, "cpu").metadata
    assert metadata.precision == "int8"
    assert metadata.resolution["rollout"] < 1e-5 < 1e-4 < metadata.resolution["grad_rollout"] < 0.1


@pytest.mark.parametrize("factor", [1.5, 0, -1])
@pytest.mark.parametrize("name", ["gradient", "relevance"])
def test_a_product_that_is_wrong_in_the_graph_as_well_is_found(name, factor, tmp_path, monkeypatch):
    """The file equals its graph then; exact products tell, also of relevance, in which a factor all but cancels."""
    right = products._product
    monkeypatch.setattr(products, "_product", lambda *given: factor * right(*given))
    with pytest.raises(GateError, match=rf"{OF_PRODUCTS}: {abs(factor - 1):.1g}\d* against 0.4"):
        _export(tmp_path / "x.onnx", passes=[name])
    assert not list(tmp_path.iterdir())


def test_plain_artifacts(tmp_path):
    report = _export(tmp_path / "x.onnx", heatmaps=["grad_rollout", "transformer_attribution"])
    told = {row.output: row.value for row in report.rows if row.check == OF_INT8}
    limits = {row.output: row.limit for row in report.rows if row.check == EQUAL}
    assert limits["heatmap_transformer_attribution"] == 1e-7
    assert report.passed and told.keys() == {"heatmap_grad_rollout", "heatmap_transformer_attribution"}
    assert 1e-5 < told["heatmap_grad_rollout"] < 0.05
