"""Files that export wrote: what is said of them against onnxruntime, and what Triton would load."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxplain.export import export_model
from onnxplain.runtime import Explainer
from tests.helpers.command_line import run
from tests.helpers.export_cases import LABELS, build, preprocessing
from tests.helpers.model_config import parse_config

TYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool", "tensor(uint8)": "uint8"}
CASES = {
    "full": {"passes": []},
    "one": {"heatmaps": ["grad_rollout"]},
    "required": {"heatmaps": ["grad_rollout", "rollout"]},
    "optional": {"heatmaps": ["grad_rollout", "rollout"], "flags": "optional"},
    "none": {"heatmaps": ["grad_rollout", "rollout"], "flags": "none"},
}
QUICK = ("full", "one", "required")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exports a case once."""
    model, folder, made = build("plain"), tmp_path_factory.mktemp("artifacts"), {}

    def export(case):
        if case not in made:
            made[case] = folder / f"{case}.onnx"
            export_model(model, made[case], labels=LABELS, preprocessing=preprocessing(model), **CASES[case])
        return made[case]

    return export


def _tensors(arguments):
    return {item.name: [TYPES[item.type], [*item.shape]] for item in arguments}


@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_inputs_and_outputs_are_those_of_the_graph(exported, case):
    path = exported(case)
    document = json.loads(run("info", "--json", path).stdout)
    session = onnxruntime.InferenceSession(path)
    needed = {item["name"]: [item["type"], item["shape"]] for item in document["inputs"] if not item["optional"]}
    optional = {item["name"]: [item["type"], item["shape"]] for item in document["inputs"] if item["optional"]}
    given = {item["name"]: [item["type"], item["shape"]] for item in document["outputs"]}
    assert needed == _tensors(session.get_inputs())
    assert optional == _tensors(session.get_overridable_initializers())
    assert given == _tensors(session.get_outputs())
    assert list(given) == [item.name for item in session.get_outputs()]


@pytest.mark.parametrize("case", ["one", "required"])
def test_what_triton_would_load(exported, case, tmp_path):
    assert run("triton", exported(case), "--output", tmp_path).exit_code == 0
    config = parse_config(tmp_path / case / "config.pbtxt")
    session = onnxruntime.InferenceSession(tmp_path / case / "1/model.onnx")
    for entries, arguments in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert {entry.name for entry in entries} == {argument.name for argument in arguments}
        graph = {argument.name: [n if isinstance(n, int) else -1 for n in argument.shape] for argument in arguments}
        for entry in entries:
            dims = entry.reshape.shape if entry.HasField("reshape") else entry.dims
            assert graph[entry.name] == [-1, *dims]


def test_file_with_required_flags_is_valid(exported):
    onnx.checker.check_model(exported("required"), full_check=True)
    onnx.shape_inference.infer_shapes(onnx.load(exported("required")), strict_mode=True)


def test_requests_in_one_batch_with_different_flags(exported):
    """Triton joins them along the axis of the batch."""
    path = exported("required")
    session, explainer = onnxruntime.InferenceSession(path), Explainer(exported("one"))
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(2, 3, *explainer.metadata.preprocessing.size)).astype(np.float32)
    flags = {"with_heatmap_grad_rollout": np.array([True, False]), "with_heatmap_rollout": np.array([False, False])}
    names = ["heatmap_grad_rollout", "heatmap_rollout"]
    wanted, other = session.run(names, {"pixels": pixels, "target": np.array([[1], [2]]), **flags})
    for image, target in enumerate([1, 2]):
        alone = explainer.explain_pixels(pixels[image : image + 1], target=target, method="grad_rollout")[0]
        np.testing.assert_allclose(wanted[image, 0], alone.input_heatmap, atol=1e-5 * np.abs(wanted).max())
    assert other.shape == (2, 0, *pixels.shape[2:])  # it splits outputs that nobody asked for as well
