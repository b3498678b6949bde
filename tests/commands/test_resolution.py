"""What the command line says of how exactly float32 resolves maps."""

import pytest

from onnxplain.runtime import Explainer, OnnxplainError
from tests.helpers.command_line import run
from tests.helpers.tiny_artifact import build

pytestmark = pytest.mark.usefixtures("folder")

RESOLUTION = {"transformer_attribution": 0.4, "full": 1.0, "rollout": 2.3e-7, "last_layer": 0.021}
WARNING = (
    "inexact: float32 changes maps of this method by up to 40% here, on random images; export --precision float64, "
    "in ONNX, avoids this"
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx", resolution=RESOLUTION)


def test_info(artifact, tmp_path):
    line = "float32 error  of maps: full 100% or more, transformer_attribution 40%, all others within 2.1%"
    assert line in run("info", artifact).stdout
    assert "float32 error  of maps: not measured" in run("info", build(tmp_path / "none.onnx")).stdout
    exact = build(tmp_path / "exact.onnx", resolution={"rollout": 1e-6, "gmar": 0.002})
    assert "float32 error  of maps: all within 0.2%" in run("info", exact).stdout


def test_methods_of_an_artifact(artifact, tmp_path):
    rows = [line.split()[:2] for line in run("methods", artifact).stdout.splitlines() if line[:1].isalpha()]
    shown = {row[0]: row[1] for row in rows if len(row) == 2}
    assert shown["transformer_attribution"] == "40%" and shown["last_layer"] == "2.1%" and shown["rollout"] == "<0.1%"
    assert shown["rise"] == "-"
    less = run("methods", build(tmp_path / "less.onnx", passes=("attention",))).stdout
    assert "rollout" in less and "transformer_attribution  " not in less
    assert "error: the largest difference from the map in float64" in less
    assert "float32" not in run("methods").stdout
    result = run("methods", "nope.onnx")
    assert result.exit_code == 2 and "there is no artifact nope.onnx" in str(result.output)


def test_explain_warns_of_inexact_maps(artifact):
    out = run("explain", artifact, "cat.png").stdout
    assert WARNING in out
    assert "inexact" not in run("explain", artifact, "cat.png", "--method", "last_layer").stdout
    assert "inexact" not in run("explain", artifact, "cat.png", "--method", "rise", "--masks", 2).stdout
    lines = run("explain", artifact, "cat.png", "--all-methods").stdout.splitlines()
    assert [line.split()[0] for line in lines if "inexact" in line] == ["transformer_attribution", "full"]


def test_quiet_it_is_a_warning_for_each_method(artifact):
    done = run("explain", artifact, "cat.png", "pictures", "--quiet", "--method", "full", "--method", "rollout")
    assert done.stdout == "" and done.stderr.startswith(
        "warning: full is inexact: float32 changes maps of this method by 100% or more here"
    )
    assert done.stderr.count("\n") == 1


def test_it_is_that_of_the_precision(tmp_path):
    half = build(tmp_path / "half.onnx", resolution=RESOLUTION, precision="float16")
    assert "float16 error  of maps: full 100% or more" in run("info", half).stdout
    assert "100% or more" in run("methods", half).stdout
    cheaper = "; --precision float32 may be enough, and "
    assert WARNING.replace("float32", "float16").replace("; ", cheaper) in run("explain", half, "cat.png").stdout


def test_explanation_holds_it(artifact, folder):
    explainer = Explainer(artifact, "cpu")
    assert explainer.explain(folder / "cat.png").resolution == 0.4
    assert explainer.explain(folder / "cat.png", method="gmar").resolution is None


@pytest.mark.parametrize("wrong", [{"rollout": 1.5}, {"rollout": -0.1}, {"rollout": "much"}, [0.5], {"x": None}])
def test_metadata_field(wrong, tmp_path):
    with pytest.raises(OnnxplainError, match="'resolution' must be an object of numbers from 0 to 1"):
        build(tmp_path / "x.onnx", resolution=wrong)
