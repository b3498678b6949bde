"""The command line where its streams are closed, and when it is told to end."""

import signal
import subprocess
import sys

import pytest
from PIL import Image

from onnxplain.runtime.files import UNFINISHED
from tests.helpers.processes import heed_signals
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_cleans_up(number, tmp_path):
    command = [sys.executable, "-c", SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, preexec_fn=heed_signals) as process:
        process.stdout.readline()
        assert any(item.name.startswith(UNFINISHED) for item in tmp_path.iterdir())
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert not list(tmp_path.iterdir())


def test_under_nohup_it_goes_on(tmp_path):
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
