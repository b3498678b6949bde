"""Artifacts in OpenVINO on the CPU, as they are: what onnxruntime gives, for every map and every output."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.outputs import ALWAYS, HEATMAP, output_of
from onnxplain.demo.samples import samples
from onnxplain.export import load_backbone
from onnxplain.export.verify.op_by_op import OnnxOpByOp
from onnxplain.runtime import METHODS
from onnxplain.runtime.images.preprocessing import preprocess
from tests.helpers.export_cases import FACTOR, ILL_CONDITIONED, LABELS, build, preprocessing
from tests.helpers.quick_export import export_unchecked
from tests.reference import variants

Outputs = dict[str, NDArray[Any]]
IN_GRAPH = [name for name, method in METHODS.items() if method.in_graph]
INEXACT = {name for name in IN_GRAPH if {"relevance", "pixel_relevance"} & set(METHODS[name].passes)}
IMAGES = 7  # of noise; of one or two, relevance of float32 is far off

CLOSE = 1e-4


pytestmark = pytest.mark.slow


def _export(name: str, path: Path, **options: Any) -> tuple[Path, NDArray[np.float32]]:
    """The artifact of a model, and some images."""
    if name == "demo":
        backbone = load_backbone("demo")
        images = [preprocess(Image.open(sample.path), backbone.preprocessing)[0] for sample in samples()]
        return export_unchecked(backbone, path, **options), np.stack(images)
    model = build(name)
    file = export_unchecked(model, path, labels=LABELS, preprocessing=preprocessing(model), **options)
    return file, variants.pixels(model, IMAGES).numpy()


def _targets(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.array([[3, -1], [0, -2]])[np.arange(len(pixels)) % 2]


def _in_onnxruntime(path: Path, pixels: NDArray[np.float32]) -> Outputs:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixels": pixels, "target": _targets(pixels)}), strict=True))


def _in_openvino(path: Path, pixels: NDArray[np.float32], names: Iterable[str]) -> Outputs:
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = compiled({"pixels": pixels, "target": _targets(pixels)})
    return {name: given[name] for name in names}


def _errors(given: NDArray[Any], expected: NDArray[Any], per_target: bool) -> NDArray[Any]:
    """The greatest relative to the greatest value, of each image, and of each target where there is one of each."""
    axes = tuple(range(1 + per_target, expected.ndim))
    errors: NDArray[Any] = np.abs(given - expected).max(axes) / np.maximum(np.abs(expected).max(axes), 1e-30)
    return errors


def _assert_right(path: Path, pixels: NDArray[np.float32]) -> None:
    """To `CLOSE`; where float32 is inexact the median, to some times what onnxruntime is off."""
    expected = _in_onnxruntime(path, pixels)
    given = _in_openvino(path, pixels, expected)
    np.testing.assert_array_equal(given["class_index"], expected["class_index"])
    inexact = {name for name in expected if name in ILL_CONDITIONED or name.removeprefix(HEATMAP) in INEXACT}
    exact = OnnxOpByOp(path).run(torch.from_numpy(pixels).double(), torch.from_numpy(_targets(pixels)), inexact)
    for name, tensor in given.items():
        per_target = name not in ALWAYS and output_of(name).per_target
        errors = _errors(tensor, expected[name], per_target)
        if name in inexact:
            own = np.median(_errors(expected[name], exact[name].numpy(), per_target))
            assert own < 0.02 and np.median(errors) <= max(CLOSE, FACTOR * own), name
        else:
            assert errors.max() <= CLOSE, name


@pytest.mark.parametrize("name", ["registers", "mean_pool_non_square", "demo"])
def test_every_map_of_a_plain_artifact(name: str, tmp_path: Path) -> None:
    _assert_right(*_export(name, tmp_path / "plain.onnx", heatmaps=IN_GRAPH, flags="none"))


def test_every_output_of_a_full_artifact(tmp_path: Path) -> None:
    """Optional flags are no inputs there: OpenVINO computes everything."""
    _assert_right(*_export("registers", tmp_path / "full.onnx"))
