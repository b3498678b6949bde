"""What the command line tells other programs."""

import hashlib
import json
import subprocess
import sys

from onnxplain.catalog import LIBRARIES, MODELS
from onnxplain.contract.metadata import Metadata
from onnxplain.evaluation import METRICS
from onnxplain.runtime import METHODS, Explainer
from tests.helpers.command_line import run
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import build


def test_one_document_on_standard_output(artifact):
    result = run("info", "--json", artifact)
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and not result.stderr
    file = ["artifact", "bytes", "digest", "methods"]
    assert list(document) == [*file, "metadata", "inputs", "outputs", "preprocessing_steps"]
    assert document["artifact"] == str(artifact) and document["bytes"] == artifact.stat().st_size
    assert document["digest"] == hashlib.sha256(artifact.read_bytes()[:-64]).hexdigest()
    assert document["methods"] == list(METHODS)
    assert Metadata.from_json(json.dumps(document["metadata"])) == Explainer(artifact).metadata
    assert document["inputs"][0]["name"] == "pixels" and document["outputs"][0]["name"] == "logits"


def test_plain_artifact(tmp_path):
    document = json.loads(run("info", build_plain(tmp_path / "p.onnx"), "--json").stdout)
    assert [item["name"] for item in document["inputs"]] == ["pixels", "target"]
    assert document["methods"] == ["rollout"]
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


def _listed(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0 and not result.stderr and result.stdout.isascii()
    return json.loads(result.stdout)


def test_methods():
    listed = {item.pop("name"): item for item in _listed("methods")["methods"]}
    assert list(listed) == list(METHODS)
    for name, item in listed.items():
        row = METHODS[name]
        parameters = item.pop("parameters")
        assert [each["name"] for each in parameters] == [each.name for each in row.parameters]
        assert {each["name"]: each["default"] for each in parameters} == row.arguments({}, 12)
        assert item == {
            "summary": row.summary,
            "reference": row.reference,
            "passes": list(row.passes),
            "per_class": row.per_target,
            "pixel_level": row.pixel_level,
            "signed": row.signed,
            "relative": row.relative,
            "runs": row.runs,
            "fixed": None,
            "resolution": None,
            "missing": None,  # all that methods need is installed for the tests
        }
    assert (
        listed["rise"]["runs"] == "masks" and not listed["rollout"]["per_class"] and listed["gradient"]["pixel_level"]
    )
    rollout = _listed("methods")["methods"][list(METHODS).index("rollout")]["parameters"]
    assert rollout[0] == {
        "name": "head_fusion",
        "default": "mean",
        "summary": "how the heads of a layer become one matrix",
        "valid": "one of mean, max, min",
        "choices": ["mean", "max", "min"],
    }
    assert rollout[2]["valid"] == "a layer number counted from 0 (this model has layers 0 to L - 1)"


def test_methods_of_an_artifact(tmp_path):
    file = build(tmp_path / "few.onnx", passes=("attention",), resolution={"rollout": 0.25})
    listed = {item["name"]: item for item in _listed("methods", file)["methods"]}
    assert list(listed) == ["rollout", "attention_flow", "raw_attention", "rise"]
    assert listed["rollout"]["resolution"] == 0.25 and listed["raw_attention"]["resolution"] is None
    assert "(this model has layers 0 to 1)" in listed["rollout"]["parameters"][2]["valid"]
    plain = build_plain(tmp_path / "p.onnx", ("rollout",))
    (item,) = _listed("methods", plain)["methods"]
    assert item["parameters"] == [] and item["fixed"] == METHODS["rollout"].defaults  # the file names none


def test_methods_that_cannot_run_here(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    listed = {item["name"]: item["missing"] for item in _listed("methods")["methods"]}
    assert listed["attention_flow"] == "it needs scipy: pip install 'onnxplain[flow]'" and listed["rollout"] is None


def test_metrics():
    listed = _listed("metrics")["metrics"]
    assert [item["name"] for item in listed] == list(METRICS)
    for item, row in zip(listed, METRICS.values(), strict=True):
        assert (item["better"], item["baseline"], item["default"]) == (row.better, row.baseline, row.default)
        assert (item["summary"], item["reference"]) == (row.summary, row.reference) and len(item) == 6


def test_models():
    listed = _listed("models")
    models = {item.pop("name"): item for item in listed["models"]}
    assert list(models) == [*MODELS, "demo"]
    assert models["deit"] == {
        "summary": "DeiT-Ti/16",
        "classes": 1000,
        "prompts": False,
        "weights": "timm/deit_tiny_patch16_224.fb_in1k",
    }
    assert models["dinov2"]["weights"] == "facebook/dinov2-base-imagenet1k-1-layer"
    assert models["clip"]["prompts"] and not models["clip"]["classes"] and models["demo"]["classes"] == 10
    assert {item["name"]: item["summary"] for item in listed["libraries"]} == {
        name: library.about for name, library in LIBRARIES.items()
    }


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
