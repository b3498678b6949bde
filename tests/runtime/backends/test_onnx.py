"""Opening an artifact: what is one, what is none, on which device."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from onnxplain.runtime import METADATA_KEY, ArtifactError, Explainer, OnnxplainError, Preprocessing
from onnxplain.runtime.backends.providers import DEVICES
from tests.helpers.tiny_artifact import HEADS, LAYERS, SIZE, TOKENS, build, save


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx")


def test_a_disabled_pass_is_empty_and_flags_are_optional(artifact):
    session = onnxruntime.InferenceSession(str(artifact))
    feeds = {"pixels": np.zeros((1, 3, *SIZE), np.float32), "target": np.array([[0]])}
    off = session.run(["relevance", "attention_gradient"], {**feeds, "with_relevance": np.array(False)})
    assert off[0].size == 0 and off[1].shape == (1, 1, LAYERS, HEADS, TOKENS, TOKENS)
    off = session.run(["attention", "attention_mean"], {**feeds, "with_attention": np.array(False)})
    assert off[0].size == 0 and off[1].shape == (1, LAYERS, TOKENS, TOKENS)


def test_loading_is_silent(artifact):
    code = f"from onnxplain.runtime import Explainer; Explainer({str(artifact)!r}, device='cpu')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "there is no artifact"),
        (lambda path: path.parent, "is a folder, not an artifact"),
        (lambda path: _write(path, b""), "not an ONNX file|not an onnxplain artifact"),
        (lambda path: _write(path, b"hello, this is text"), "not an ONNX file"),
        (lambda path: _write(path, build(path).read_bytes()[:500]), "not an ONNX file"),
        (lambda path: build(path, metadata="{}"), "not an onnxplain artifact: metadata schema is None"),
        (lambda path: build(path, labels=["only one"]), r"logits is \[batch, 6\], its metadata says \[batch, 1\]"),
        (
            lambda path: build(path, patch_grid=[3, 3]),
            r"not an onnxplain artifact: attention is \[batch, 2, 2, 7, 7\], .* 10, 10\]",
        ),
        (
            lambda path: build(path, preprocessing=Preprocessing((24, 24), (0,) * 3, (1,) * 3)),
            r"pixels is \[batch, 3, 16, 24\], .* \[batch, 3, 24, 24\]",
        ),
    ],
)
def test_files_that_are_no_artifact(make, message, tmp_path):
    path = make(tmp_path / "x.onnx")
    with pytest.raises(OnnxplainError, match=message) as error:
        Explainer(path, device="cpu")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_another_onnx_file_and_one_that_lacks_a_pass(tmp_path):
    path = build(tmp_path / "x.onnx", passes=("attention",))
    model = onnx.load(path)
    described = model.metadata_props[0].value.replace('["attention"]', '["attention", "gradient"]')
    helper.set_model_props(model, {METADATA_KEY: described})
    save(model, path)
    with pytest.raises(OnnxplainError, match="the graph has no attention_gradient"):
        Explainer(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(OnnxplainError, match="not an onnxplain artifact: an ONNX file without 'onnxplain' metadata"):
        Explainer(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "[]", '{"precision": {}}', "\0", "\ufffd"]
)
def test_hostile_metadata_are_refused_in_one_line(text, packed, tmp_path):
    """Under a digest that is right, so that nothing else refuses the file."""
    path = build(tmp_path / "x.onnx", metadata=text)
    with pytest.raises(ArtifactError, match="not an onnxplain artifact: ") as error:
        Explainer(path, "cpu", packed=packed)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def _without(model, name):
    model.graph.output.remove(next(item for item in model.graph.output if item.name == name))


def _dimension(model, name, axis, size):
    shape = next(item for item in model.graph.output if item.name == name).type.tensor_type.shape
    shape.dim[axis].dim_value = size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: _without(model, "gradient_attention_max"), "the graph has no gradient_attention_max"),
        (lambda model: _dimension(model, "relevance_positive", -1, 8), r"relevance_positive is .*7, 8\], .*7, 7\]"),
        (lambda model: _dimension(model, "reciprocam", -2, 3), r"reciprocam is .*3, 3\], .*2, 3\]"),
    ],
)
def test_every_output_that_the_passes_promise_is_there_and_fits(change, message, tmp_path):
    path = build(tmp_path / "x.onnx")
    model = onnx.load(path)
    change(model)
    save(model, path)
    with pytest.raises(OnnxplainError, match=message) as error:
        Explainer(path)
    assert "not an onnxplain artifact" in str(error.value) and "\n" not in str(error.value)


def test_devices(artifact, monkeypatch):
    assert Explainer(artifact, device="cpu").device == "cpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert Explainer(artifact).device == "cpu"
    with pytest.raises(OnnxplainError, match=r"`device` cuda needs .*onnxplain\[gpu\]"):
        Explainer(artifact, device="cuda")
    with pytest.raises(
        OnnxplainError, match=f"there is no device 'tpu'; there are: auto, {', '.join(sorted(DEVICES))}"
    ):
        Explainer(artifact, device="tpu")
    for threads in (0, 1.5, "2", True, 1025):
        with pytest.raises(
            OnnxplainError, match=f"`threads` must be an integer from 1 to 1024, or None for all cores, got {threads!r}"
        ):
            Explainer(artifact, threads=threads)


def test_import_needs_no_torch_timm_or_onnx():
    heavy = ["torch", "torchvision", "timm", "onnx", "onnxscript", "onnxplain.lrp_graph", "onnxplain.export", "cmap"]
    imported = "import sys; from onnxplain.runtime import Explainer; "
    code = f"{imported}print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_without_onnxruntime_says_what_to_install():
    code = "import sys; sys.modules['onnxruntime'] = None; from onnxplain.runtime import Explainer"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install 'onnxplain[cpu]'" in done.stderr.splitlines()[-1]
