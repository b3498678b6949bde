"""Pipes and devices in place of files are refused at once, and - is the picture on standard input."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from onnxplain import cli, export  # noqa: F401  as importing it takes a while, which is not waiting for a pipe
from onnxplain.runtime import Explainer, OnnxplainError, load_image
from onnxplain.runtime.images import loading
from tests.helpers.command_line import assert_mistake, read_pixels

pytestmark = pytest.mark.usefixtures("folder")

EXPORT = ("export", "--model", "timm/vit_tiny_patch16_224", "--output", "x.onnx")
PROBE = ("probe", "--model", "timm/vit_tiny_patch16_224", "--random-init", "--output", "x.safetensors")


@pytest.fixture(autouse=True)
def in_time():
    """What waits for a pipe is interrupted, and fails."""

    def stop(*arguments):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device"])
def irregular(request, tmp_path):
    """A pipe that nobody writes into, and a device without an end."""
    if request.param == "device":
        return Path("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_images_and_artifacts(irregular, artifact):
    line = f"{irregular} is not a regular file but a pipe, socket or device; give an"
    with pytest.raises(OnnxplainError, match="not a regular file"):
        load_image(irregular)
    assert_mistake(f"{line} image as a file", "explain", artifact, irregular)
    assert_mistake(f"{line} artifact as a file", "explain", irregular, "cat.png")
    assert_mistake(f"{line} artifact as a file", "info", irregular)


@pytest.mark.parametrize(
    "options",
    [
        ("--random-init", "--labels"),
        ("--random-init", "--prompts"),
        ("--random-init", "--prompts", "a cat", "a dog", "--template"),
    ],
)
def test_texts(irregular, options):
    line = f"{irregular} is not a regular file but a pipe, socket or device; give a file with"
    assert_mistake(line, *EXPORT, *options, irregular)


def test_weights(irregular):
    assert_mistake("give a checkpoint as a file", *EXPORT, "--checkpoint", irregular)
    assert_mistake("give a head as a file", *EXPORT, "--random-init", "--head", irregular)


def test_a_cache_of_features(irregular, monkeypatch):
    Path("pictures/cats").mkdir()
    Path("pictures/dogs").mkdir()
    for number, name in enumerate(["cats/a.png", "cats/b.png", "cats/c.png", "dogs/a.png", "dogs/b.png", "dogs/c.png"]):
        Path("pictures", name).write_bytes(Path("cat.png").read_bytes() + bytes(number))
    os.mkfifo("pictures/cats/pipe.png")  # is passed over
    line = "give a cache of features as a file"
    assert_mistake(line, *PROBE, "--data", "pictures", "--cache", irregular)


def test_pipes_in_folders_are_passed_over(artifact):
    os.mkfifo("pictures/pipe.png")
    result = CliRunner().invoke(cli.app, ["explain", str(artifact), "pictures", "--output", "out"])
    assert result.exit_code == 0 and "explained 3 of 3 images" in result.stdout


# --- standard input


def _explain(artifact, *options, given):
    return CliRunner().invoke(cli.app, ["explain", str(artifact), *options], input=given)


def test_an_image_on_standard_input(artifact):
    data = Path("cat.png").read_bytes()
    result = _explain(artifact, "-", "pictures/a.png", "--method", "rollout", "--target", "3", given=data)
    assert result.exit_code == 0 and result.stderr == ""
    assert "stdin, 60 x 40 pixels" in result.stdout.splitlines()
    assert sorted(path.name for path in Path("explanations").iterdir()) == [
        "a.png.tiny.rollout.crane.png",
        "stdin.tiny.rollout.crane.png",
    ]
    expected = Explainer(artifact).explain(data, 3, "rollout").figure()
    np.testing.assert_array_equal(read_pixels("explanations/stdin.tiny.rollout.crane.png"), np.asarray(expected))
    assert _explain(artifact, "-", "--all-methods", given=data).exit_code == 0
    assert Path("explanations/stdin.tiny.sheet.png").exists()


@pytest.mark.parametrize("given", [b"", b"hello", None])
def test_what_is_no_image_on_standard_input(given, artifact):
    data = Path("cat.png").read_bytes()[:200] if given is None else given
    what = {b"": "is empty", b"hello": "is not an image"}.get(data, "cannot be read as an image")
    _assert_refused(f"error: stdin {what}", _explain(artifact, "-", given=data))


def test_standard_input_has_the_limits_of_files(artifact, monkeypatch):
    line = "60 x 40 pixels, more than the limit of 2399"
    _assert_refused(line, _explain(artifact, "-", "--max-pixels", "2399", given=Path("cat.png").read_bytes()))
    monkeypatch.setattr(loading, "FILE_BYTES", (1, 0))
    line = "standard input holds more than the 200 bytes"
    _assert_refused(line, _explain(artifact, "-", "--max-pixels", "200", given=bytes(201)))


def _assert_refused(message, result):
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and message in result.stderr
    assert not Path("explanations").exists()


@pytest.mark.parametrize("stream", ["terminal", "closed"])
def test_standard_input_that_is_none(stream, artifact, monkeypatch):
    """At a terminal nothing would come, and nobody would know what is waited for."""
    leader, follower = os.openpty()
    with os.fdopen(leader), os.fdopen(follower) as terminal:
        monkeypatch.setattr(sys, "stdin", None if stream == "closed" else terminal)
        with pytest.raises(OnnxplainError, match="standard input, which is none"):
            cli.arguments.read_stdin(100)
