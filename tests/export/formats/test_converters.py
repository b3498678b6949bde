"""Plain artifacts through onnxruntime's tools for int8 and float16: they run, and what they write is near."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from PIL import Image

from onnxplain.demo.samples import samples
from onnxplain.export import load_backbone
from onnxplain.runtime.images.preprocessing import preprocess
from tests.helpers.quick_export import export_unchecked

Outputs = dict[str, NDArray[Any]]
TARGETS = np.array([[3, 7]] * 4)
EXACT = ["legrad", "attnlrp", "rollout", "gradient"]
METHODS_OF = {"one": ["legrad"], "several": [*EXACT, "full", "transformer_attribution", "vit_reciprocam"]}


@pytest.fixture(scope="module", params=["one", "required", pytest.param("several", marks=pytest.mark.slow)])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model's artifact: of one method, of several without flags, and of two with required ones."""
    path: Path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    methods = METHODS_OF.get(request.param, ["legrad", "rollout"])
    flags = {"one": None, "several": "none", "required": "required"}[request.param]
    return export_unchecked(load_backbone("demo"), path, heatmaps=methods, flags=flags)


def _run(path: Path) -> Outputs:
    backbone = load_backbone("demo")
    pixels = np.stack([preprocess(Image.open(sample.path), backbone.preprocessing)[0] for sample in samples()])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    half = session.get_inputs()[0].type == "tensor(float16)"
    feeds = {"pixels": pixels.astype(np.float16) if half else pixels, "target": TARGETS}
    feeds |= {value.name: np.ones(4, bool) for value in session.get_inputs()[2:]}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def _assert_near(path: Path, plain: Path, of_logits: float, cosine: float) -> None:
    given, expected = _run(path), _run(plain)
    np.testing.assert_array_equal(given["class_index"], expected["class_index"])
    assert np.abs(given["logits"] - expected["logits"]).max() <= of_logits * np.abs(expected["logits"]).max()
    for name in {f"heatmap_{method}" for method in EXACT} & expected.keys():
        one, other = (outputs[name].astype(np.float64).reshape(8, -1) for outputs in (given, expected))
        assert ((one * other).sum(1) >= cosine * np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8(per_channel: bool, plain: Path, tmp_path: Path) -> None:
    quantize_dynamic(plain, tmp_path / "int8.onnx", per_channel=per_channel)
    _assert_near(tmp_path / "int8.onnx", plain, of_logits=0.05, cosine=0.98)


@pytest.mark.parametrize("keep_io_types", [False, True])
def test_float16(keep_io_types: bool, plain: Path, tmp_path: Path) -> None:
    half = convert_float_to_float16(onnx.load(plain), keep_io_types=keep_io_types)
    onnx.save(half, tmp_path / "half.onnx")
    _assert_near(tmp_path / "half.onnx", plain, of_logits=0.005, cosine=0.999)


def test_preparation_for_int8(plain: Path, tmp_path: Path) -> None:
    quant_pre_process(plain, tmp_path / "prepared.onnx", skip_symbolic_shape=True)
    _assert_near(tmp_path / "prepared.onnx", plain, of_logits=1e-5, cosine=0.99999)
