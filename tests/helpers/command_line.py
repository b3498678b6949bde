"""How tests run the command line: in a folder with images, with an artifact, or with a stand-in for PyTorch's half."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import onnxplain
from onnxplain import cli
from onnxplain.runtime import OnnxplainError
from tests.helpers.tiny_artifact import build

PARITY = {
    "passed": True,
    "checks": [
        {"output": "logits", "check": "error", "value": 1e-7, "limit": 1e-5, "passed": True},
        {"output": "relevance", "check": "error", "value": 2e-6, "limit": 1e-6, "passed": False},
    ],
}


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx", parity=PARITY)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a picture, a folder of three and what is no picture at all."""
    monkeypatch.chdir(tmp_path)
    random_image(0).save("cat.png")
    Path("pictures").mkdir()
    for seed, name in enumerate(["c.JPG", "a.png", "b.webp"]):
        random_image(seed).save(Path("pictures", name))
    Path("pictures", "notes.txt").write_text("not a picture")
    Path("empty").mkdir()
    Path("zero.png").touch()
    Path("text.png").write_text("hello")
    Path("cut.png").write_bytes(Path("cat.png").read_bytes()[:200])
    return tmp_path


def random_image(seed, width=60, height=40):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def contents():
    assert not Path("pyproject.toml").exists(), "the test runs in the checkout, all of which would be read"
    return {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}


def assert_mistake(message, *arguments, status=2):
    """One line on standard error that contains the message, the status, and nothing written."""
    before = contents()
    result = run(*arguments)
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.output
    assert message in lines[0] and "Traceback" not in result.output
    assert result.exit_code == status
    assert contents() == before
    return result


def read_pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


class FakeGateError(OnnxplainError):
    report = SimpleNamespace(to_dict=lambda: {"checks": [PARITY["checks"][0] | {"value": 1.0, "passed": False}]})


BACKBONE = SimpleNamespace(name="vit", has_classes=True)


@pytest.fixture
def exporter(monkeypatch):
    """A fake onnxplain.export; `.calls` is what it was asked for."""

    def load_backbone(*arguments, progress, **options):
        progress("loading")
        fake.calls.append((*arguments, *(value for value in options.values() if value)))
        return BACKBONE

    def export_model(backbone, path, format, passes, opset, alpha, beta, heatmaps, flags, input, progress, **gammas):
        progress("tracing")
        fake.calls.append((backbone, path, format, passes, opset, alpha, beta, *gammas.values()))
        fake.plain.append((heatmaps, flags, input))
        if opset == 19:
            raise FakeGateError("the exported graph does not equal the model")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(123_000))
        return SimpleNamespace(to_dict=lambda: fake.parity)

    fake = SimpleNamespace(
        load_backbone=load_backbone, export_model=export_model, GateError=FakeGateError,
        HOW_TO_GET_CLASSES="--head FILE", calls=[], plain=[], parity=PARITY,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "onnxplain.export", fake)
    monkeypatch.setattr(onnxplain, "export", fake, raising=False)
    return fake
