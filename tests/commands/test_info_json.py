"""What the command line tells other programs."""

import json
import subprocess
import sys

from onnxplain.contract.metadata import Metadata
from onnxplain.runtime import Explainer
from tests.helpers.command_line import run
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import build


def test_one_document_on_standard_output(artifact):
    result = run("info", "--json", artifact)
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and not result.stderr
    assert list(document) == ["metadata", "inputs", "outputs", "preprocessing_steps"]
    assert Metadata.from_json(json.dumps(document["metadata"])) == Explainer(artifact).metadata
    assert document["inputs"][0]["name"] == "pixels" and document["outputs"][0]["name"] == "logits"


def test_plain_artifact(tmp_path):
    document = json.loads(run("info", build_plain(tmp_path / "p.onnx"), "--json").stdout)
    assert [item["name"] for item in document["inputs"]] == ["pixels", "target"]
    assert document["outputs"][-1] == {
        "name": "heatmap_rollout",
        "type": "float32",
        "shape": ["batch", "targets", 16, 24],
    }


def test_texts_that_no_terminal_takes(tmp_path):
    path = build(tmp_path / "x.onnx", model="猫 \x1b[31m \u202e")
    out = run("info", "--json", path).stdout
    assert out.isascii() and "\x1b" not in out
    assert json.loads(out)["metadata"]["model"] == "猫 \x1b[31m \u202e"


def test_without_pytorch(artifact):
    program = (
        "import sys; sys.argv = ['onnxplain', 'info', '--json', sys.argv[1]]\n"
        "from onnxplain import cli\n"
        "try: cli.app()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", program, artifact], capture_output=True, text=True)
    assert result.returncode == 0 and json.loads(result.stdout), result.stderr
