"""What is no TorchScript artifact is refused, when it is opened as when it is written."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from onnxplain.commands import arguments
from onnxplain.export import GateError, export_model
from onnxplain.export.formats import torchscript_file
from onnxplain.export.formats.table import WRITERS
from onnxplain.runtime import METADATA_KEY, Explainer, OnnxplainError
from onnxplain.runtime.backends.formats import open_artifact
from tests.helpers.export_cases import LABELS, build, load_script, preprocessing
from tests.reference import variants


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A model, the path of its artifact and that artifact, open."""
    model, path = build("plain"), tmp_path_factory.mktemp("artifacts") / "plain.pt"
    export_model(model, path, "torchscript", ["gradient"], labels=LABELS, preprocessing=preprocessing(model))
    file, pixels = open_artifact(path, "cpu", 1, trust=True), variants.pixels(model, 3).numpy()
    return SimpleNamespace(model=model, path=path, file=file, pixels=pixels)


def _write(path, content):
    path.write_bytes(content)


def _save(path, metadata=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(type("Other", (torch.nn.Module,), {})())
        module.define("def forward(self, pixels: Tensor, target: Tensor) -> Tensor:\n    return pixels\n")
        torch.jit.save(module, path, _extra_files={} if metadata is None else {METADATA_KEY: metadata})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, case: None, "there is no artifact"),
        (lambda path, case: path.mkdir(), "is a folder, not an artifact"),
        (lambda path, case: _write(path, b""), "is not a TorchScript file"),
        (lambda path, case: _write(path, b"hello, this is text"), "is not a TorchScript file"),
        (lambda path, case: _write(path, case.path.read_bytes()[:50_000]), "is not a TorchScript file"),
        (lambda path, case: torch.save({"weight": torch.ones(3)}, path), "is not a TorchScript file"),
        (lambda path, case: _save(path), "a TorchScript file without 'onnxplain' metadata"),
        (lambda path, case: _save(path, "{}"), "not an onnxplain artifact: metadata schema is None"),
        (lambda path, case: _save(path, case.file.metadata.to_json()), "its code has no with_attention"),
    ],
)
def test_files_that_are_no_artifact(make, message, tmp_path, case):
    path = tmp_path / "x.pt"
    make(path, case)
    with pytest.raises(OnnxplainError, match=message) as caught:
        Explainer(path, "cpu", trust=True)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_metadata_that_does_not_fit(case, tmp_path):
    path = tmp_path / "x.pt"
    text = json.loads(case.file.metadata.to_json()) | {"labels": ["only one"]}
    torchscript_file.save_torchscript(load_script(case.path), json.dumps(text), path)
    with pytest.raises(OnnxplainError, match=r"logits is \[3, 5\], its metadata says \[3, 1\]"):
        open_artifact(path, "cpu", None, trust=True).run(case.pixels, [0], [])


def _in_a_process(code):
    environment = os.environ | {"PYTHONPATH": str(Path(arguments.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_without_torch_the_error_says_what_to_install(case):
    path = str(case.path)
    done = _in_a_process(
        "import sys; sys.modules['torch'] = None; from onnxplain.runtime import Explainer; "
        f"Explainer({path!r}, trust=True)"
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "ArtifactError" in last and "needs PyTorch: pip install torch" in last


def test_opening_is_silent(case):
    done = _in_a_process(f"from onnxplain.runtime import Explainer; Explainer({str(case.path)!r}, 'cpu', trust=True)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("weight", "factor"), [("head_bias", 1.001), ("pos_embed", torch.nan)])
def test_a_damaged_file_is_refused(weight, factor, case, tmp_path, monkeypatch):
    path = tmp_path / "new" / "x.pt"
    module = load_script(case.path)
    next(buffer for name, buffer in module.named_buffers() if name.endswith(weight)).mul_(factor)
    row = replace(WRITERS["torchscript"], translate=lambda *_: module)
    monkeypatch.setitem(WRITERS, "torchscript", row)
    options = {"labels": LABELS, "preprocessing": preprocessing(case.model)}
    with pytest.raises(GateError, match=r"nothing was written .*logits"):
        export_model(case.model, path, "torchscript", ["gradient"], **options)
    assert not path.parent.exists()


@pytest.mark.parametrize(("format", "name"), [("torchscript", "x.onnx"), ("onnx", "x.pt"), ("torchscript", "x")])
def test_the_name_has_to_say_the_format(format, name, tmp_path):
    model = build("plain")
    with pytest.raises(OnnxplainError, match=rf"not for {format}; give a name that ends in \.(onnx|pt)$"):
        export_model(model, tmp_path / name, format, labels=LABELS, preprocessing=preprocessing(model))
    assert not list(tmp_path.iterdir())


def test_the_default_name_of_a_file():
    assert arguments.artifact_path(None, "timm/vit_x", "torchscript") == Path("artifacts/vit_x.pt")
    assert arguments.artifact_path(None, "demo", "onnx") == Path("artifacts/demo.onnx")
    assert arguments.artifact_path(None, "hf/my/folder/", "onnx") == Path("artifacts/folder.onnx")
    with pytest.raises(OnnxplainError, match="there is no format 'tf'; there are: onnx, torchscript"):
        arguments.artifact_path(None, "demo", "tf")
