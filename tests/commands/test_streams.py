"""The command line where its streams are closed, and when it is told to end."""

import signal
import subprocess
import sys

import pytest
from PIL import Image

from onnxplain.runtime.files import UNFINISHED
from tests.helpers.tiny_artifact import build

CLI = [sys.executable, "-c", "from onnxplain.cli import app; app()"]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx")


def test_without_a_standard_output(artifact, tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "cat.png")
    command = [*CLI, "explain", str(artifact), "cat.png", "--method", "rollout"]
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "") and len(list((tmp_path / "explanations").iterdir())) == 1


SLOW = """
import sys, time
from pathlib import Path
from onnxplain import cli
from onnxplain.runtime.files import unfinished

@cli.app.command()
def slow():
    with unfinished(Path()):
        print("writing", flush=True)
        time.sleep(60)

cli.app(["slow"])
"""


def test_told_to_end_it_cleans_up(tmp_path):
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.readline()
        assert any(item.name.startswith(UNFINISHED) for item in tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
