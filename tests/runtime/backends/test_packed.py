"""Weights packed for products: where it is asked for, and in int8 artifacts, with the same results."""

import numpy as np
import pytest

from onnxplain.runtime import Explainer, OnnxplainError
from onnxplain.runtime.backends.formats import open_artifact
from tests.helpers import tiny_artifact


def _is_packed(artifact):
    entry = artifact._session.get_session_options().get_session_config_entry("session.disable_prepacking")
    return {"0": True, "1": False}[entry]


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_packed_if_asked_for_or_small(tmp_path, precision, cache):
    path = tiny_artifact.build(tmp_path / "tiny.onnx", precision=precision)
    plain, packed = (open_artifact(path, "cpu", 1, cache, packed=packed) for packed in (False, True))
    assert _is_packed(packed) and _is_packed(plain) == (precision == "int8")
    pixels = np.random.default_rng(0).normal(size=plain.metadata.input_shape(2)).astype(np.float32)
    names = [item.output for item in plain.metadata.outputs]
    left, right = (artifact.run(pixels, [0, 1], names) for artifact in (plain, packed))
    for name, tensor in left.items():
        np.testing.assert_allclose(tensor, right[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_it_is_for_onnx_files(tmp_path):
    with pytest.raises(OnnxplainError, match=r"`packed` is for ONNX files, .*x\.pt is not one by its name"):
        Explainer(tmp_path / "x.pt", packed=True)


def test_it_is_a_switch(tmp_path):
    with pytest.raises(OnnxplainError, match="`packed` must be True or False, got 'yes'"):
        Explainer(tiny_artifact.build(tmp_path / "tiny.onnx"), packed="yes")
