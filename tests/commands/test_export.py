"""`export`, with a stand-in for the half that needs PyTorch: options passed on, mistakes found before any work."""

from pathlib import Path

import pytest

from tests.helpers.command_line import (
    BACKBONE,
    assert_mistake,
    run,
)

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("folder")


def test_export_defaults(exporter):
    result = run("export", "--model", "timm/vit_small.tv", "--random-init")
    path = Path("artifacts/vit_small.tv.onnx")
    assert result.exit_code == 0 and result.stderr == "" and path.exists()
    assert exporter.calls == [
        ("timm/vit_small.tv", None, True, None, None, None, None, None),
        (BACKBONE, path, "onnx", None, 20, 1.0, None, None, None, None, None, "float32"),
    ]
    assert "≤ 1e-06" in result.stdout and "≤ 1e-05" not in result.stdout and f"wrote {path}: 0.1 MB" in result.stdout
    assert f" explain {path} IMAGE" in result.stdout


ALL = (["--gamma", 0.25], (0.25, None, None, None, "float32"))
OWN = (None, 0.25, 0.05, 0.01, "int8")
HEATMAPS = ["--model", "vit", "--heatmaps", "rollout,gmar"]


def test_export_options(exporter):
    Path("labels.txt").write_text("\ufeffzero\none \n\n", encoding="utf-8")
    Path("labels.json").write_text('["zero", "one"]')
    own = ["--gamma-conv", 0.25, "--gamma-linear", 0.05, "--gamma-attention", 0.01, "--precision", "int8"]
    for labels, size, passes, expected, gammas, constants in (
        ("labels.txt", "32x48", ["--passes", "attention,gradient"], ("gradient",), own, OWN),
        ("labels.json", "32", ["--passes", "relevance", "--passes", "gradient"], ("gradient", "relevance"), *ALL),
        ("labels.json", "32", ["--passes", "attention"], (), *ALL),
    ):
        options = ["--labels", labels, "--image-size", size, *passes, "--num-classes", 2, "--checkpoint", "w.pth"]
        options += ["--alpha", 2, "--beta", 1, *gammas]
        assert run("export", "--model", "vit", "--output", "x/y.onnx", "--force", *options).exit_code == 0
        wanted = (32, 48) if "x" in size else 32
        assert exporter.calls == [
            ("vit", Path("w.pth"), False, 2, wanted, ["zero", "one"], None, None),
            (BACKBONE, Path("x/y.onnx"), "onnx", expected, 20, 2.0, 1.0, *constants),
        ]
        exporter.calls.clear()


def test_heatmaps_and_their_parameters(exporter):
    """Each method gets the parameters that it has."""
    several = ["--heatmaps", "rollout,Raw-Attention", "--layer", 0, "--discard-ratio", 0.5, "--flags", "none"]
    assert run("export", "--model", "vit", *several).exit_code == 0
    assert run("export", "--model", "vit", "--heatmaps", "legrad", "--heatmaps", "rollout", "--force").exit_code == 0
    assert run("export", "--model", "vit", "--force").exit_code == 0
    assert exporter.plain == [
        ({"rollout": {"discard_ratio": 0.5}, "Raw-Attention": {"layer": 0}}, "none", "pixels"),
        ({"legrad": {}, "rollout": {}}, None, "pixels"),
        (None, None, "pixels"),
    ]


def test_export_of_a_head(exporter):
    result = run("export", "--model", "mae", "--head", "h.safetensors", "--head-pooling", "mean")
    assert result.exit_code == 0 and "no classes" not in result.stdout
    assert exporter.calls[0] == ("mae", None, False, None, None, None, Path("h.safetensors"), "mean")


def test_export_of_a_model_without_classes(exporter, monkeypatch):
    """What the file can do, and what it takes to have more."""
    monkeypatch.setattr(BACKBONE, "has_classes", False)
    out = run("export", "--model", "mae").stdout
    assert "vit has no classes, so the file shows attention and features only; maps of classes need --head FILE" in out


def test_a_failed_gate_shows_its_table_and_writes_nothing(exporter):
    result = assert_mistake("does not equal the model", "export", "--model", "vit", "--opset", 19)
    assert ["logits", "error", "1", "≤", "1e-05", "NO"] in [line.split() for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("Missing option '--model'", []),
        ("Invalid value for '--num-classes'", ["--model", "vit", "--num-classes", "0"]),
        ("Invalid value for '--opset'", ["--model", "vit", "--opset", "17"]),
        ("Invalid value for '--alpha'", ["--model", "vit", "--alpha", "0.5"]),
        ("Invalid value for '--gamma'", ["--model", "vit", "--gamma", "-1"]),
        ("Invalid value for '--gamma-conv'", ["--model", "vit", "--gamma-conv", "-1"]),
        ("--gamma must be a number, got inf", ["--model", "vit", "--gamma", "inf"]),
        (
            "--gamma stands for --gamma-conv, --gamma-linear and --gamma-attention: give it or them, not both, got "
            "--gamma and --gamma-linear",
            ["--model", "vit", "--gamma", "0.25", "--gamma-linear", "0.05"],
        ),
        ("--alpha must be at least 1 and --beta one less than --alpha", ["--model", "vit", "--beta", "2"]),
        ("must be N or HxW in pixels, such as 224 or 224x384, got '12y'", ["--model", "vit", "--image-size", "12y"]),
        ("--image-size must be from 1 to 8192 pixels, got 100000", ["--model", "vit", "--image-size", "100000"]),
        ("--image-size must be from 1 to 8192 pixels, got 9", ["--model", "vit", "--image-size", "9" * 5000]),
        ("got '0x32'", ["--model", "vit", "--image-size", "0x32"]),
        ("got '-5'", ["--model", "vit", "--image-size", "-5"]),
        ("there is no pass 'foo'; there are: attention,", ["--model", "vit", "--passes", "gradient,foo"]),
        ("there is no method 'magic'", ["--model", "vit", "--heatmaps", "rollout,magic"]),
        ("none of the methods rollout, gmar has the parameter --layer", [*HEATMAPS, "--layer", "0"]),
        ("--start-layer is for the methods of --heatmaps; name them", ["--model", "vit", "--start-layer", "1"]),
        ("method rollout is given twice; give it once", ["--model", "vit", "--heatmaps", "rollout,gmar,Rollout"]),
        ("the map of rise cannot be computed in the graph", ["--model", "vit", "--heatmaps", "rise"]),
        ("--heatmaps and --passes exclude each other", [*HEATMAPS, "--passes", "gradient"]),
        ("there is no kind of flags 'some'", [*HEATMAPS, "--flags", "some"]),
        ("--input image is for files whose outputs are --heatmaps", ["--model", "vit", "--input", "image"]),
        ("No such option: --steps", [*HEATMAPS, "--steps", "9"]),
        ("there is no file nope.txt with labels; give one per line", ["--model", "vit", "--labels", "nope.txt"]),
        ("empty is a folder, not a file with labels; give a file", ["--model", "vit", "--labels", "empty"]),
        ("cannot read labels from cat.png: 'utf-8'", ["--model", "vit", "--labels", "cat.png"]),
        ("labels in zero.png must be", ["--model", "vit", "--labels", "zero.png"]),
        ("cat.png exists; give --force", ["--model", "vit", "--output", "cat.png"]),
        ("--output empty is a folder", ["--model", "vit", "--output", "empty", "--force"]),
        ("cannot write into cat.png: it is not a folder", ["--model", "vit", "--output", "cat.png/x.onnx"]),
        ("cannot write into /proc/x", ["--model", "vit", "--output", "/proc/x/y.onnx"]),
    ],
)
def test_export_mistakes_are_found_before_any_work(exporter, message, options):
    assert_mistake(message, "export", *options)
    assert exporter.calls == []


@pytest.mark.parametrize("text", ['["zero", 1]', '["zero", ""]', "[]", "zero\n\none"])
def test_labels_that_are_none(exporter, text):
    Path("labels.txt").write_text(text)
    assert_mistake("labels in labels.txt must be text", "export", "--model", "vit", "--labels", "labels.txt")


def test_labels_that_are_no_json(exporter):
    Path("labels.json").write_text('["zero",')
    assert_mistake(
        "cannot read labels from labels.json: Expecting", "export", "--model", "vit", "--labels", "labels.json"
    )
