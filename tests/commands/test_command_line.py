"""The command line: what is printed and written, and that every mistake is one line, status 2 and nothing written."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands import display, reporting
from onnxplain.runtime import METHODS, Explainer, Explanation, Placement
from tests.helpers.command_line import (
    BACKBONE,
    assert_mistake,
    random_image,
    read_pixels,
    run,
)
from tests.helpers.tiny_artifact import LABELS, build

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("folder")

# --- explain


def test_explain_prints_classes_and_places_and_writes_overlays(artifact):
    result = run("explain", artifact, "cat.png", "--target", -1, "--target", "tiger cat", "--output", "new/out")
    assert result.exit_code == 0 and result.stderr == ""
    expected = Explainer(artifact).explain("cat.png", [-1, "tiger cat"])
    for rank, (index, label, probability) in enumerate(expected[0].predictions, start=1):
        row = rf"^ *{rank} +{re.escape(label)} +{index} +{probability:.2%} *$"
        assert re.search(row, result.stdout, re.MULTILINE)
    for item in expected:
        path = Path("new/out", f"cat.png.tiny.transformer_attribution.{display.slug(item.label)}.png")
        assert f"{item.label} (class {item.target}), score {item.score:.3f}" in result.stdout
        assert display.location(item) in result.stdout and str(path) in result.stdout
        np.testing.assert_array_equal(read_pixels(path), np.asarray(item.overlay()))
    assert len(list(Path("new/out").iterdir())) == 2


def test_explain_passes_on_the_parameters_given(artifact):
    options = ["--head-fusion", "max", "--discard-ratio", "0.5", "--start-layer", "1", "--device", "cpu"]
    assert run("explain", artifact, "cat.png", "--method", "rollout", "--target", 3, *options).exit_code == 0
    expected = Explainer(artifact).explain("cat.png", 3, "rollout", head_fusion="max", discard_ratio=0.5, start_layer=1)
    np.testing.assert_array_equal(
        read_pixels("explanations/cat.png.tiny.rollout.crane.png"), np.asarray(expected.overlay())
    )


def test_no_file_is_replaced(artifact):
    Path("explanations").mkdir()
    Path("explanations/cat.png.tiny.rollout.crane.png").write_text("mine")
    arguments = ["explain", artifact, "cat.png", "--method", "rollout", "--target", 2, "--target", 5]
    assert run(*arguments).exit_code == 0
    assert Path("explanations/cat.png.tiny.rollout.crane.png").read_text() == "mine"
    assert sorted(path.name for path in Path("explanations").iterdir()) == [
        "cat.png.tiny.rollout.crane-2.png",
        "cat.png.tiny.rollout.crane-3.png",
        "cat.png.tiny.rollout.crane.png",
    ]
    assert {path.stat().st_mode for path in Path("explanations").iterdir()} == {Path("cat.png").stat().st_mode}


def test_folders_are_explained_in_order_and_a_bad_picture_does_not_cost_the_others(artifact):
    result = run("explain", artifact, "pictures", "cut.png", "nope.png", "cat.png", "cat.png", "--output", "out")
    assert result.exit_code == 2
    assert [line.split(" ")[1] for line in result.stderr.splitlines()] == ["cut.png", "there"]
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    shown = [line.split(",")[0] for line in result.stdout.splitlines() if line.endswith("60 x 40 pixels")]
    assert shown == ["pictures/a.png", "pictures/b.webp", "pictures/c.JPG", "cat.png"]
    assert "explained 4 of 6 images" in result.stdout
    assert sorted(path.name.split(".")[0] for path in Path("out").iterdir()) == ["a", "b", "c", "cat"]


def test_long_names_are_not_broken_in_a_pipe(artifact):
    name = f"{'long ' * 30}[bold].png"
    random_image(0).save(name)
    assert f"{name}, 60 x 40 pixels" in run("explain", artifact, name).stdout.splitlines()


def _explanation(heatmap, tokens):
    """Of a picture that the model saw as it is."""
    placement = Placement(heatmap.shape, heatmap.shape, (0, 0), heatmap.shape)
    image = Image.new("RGB", heatmap.shape[::-1])
    return Explanation(heatmap, tokens, 0, "x", 0.0, [], "rollout", image, placement)


@pytest.mark.parametrize(
    ("peak", "expected"),
    [
        ((0, 0), "upper left: pixel x 1, y 1; patch row 0, column 0 of 3 x 3"),
        ((1, 1), "centre: pixel x 4, y 4; patch row 1, column 1 of 3 x 3"),
        ((1, 2), "right: pixel x 7, y 4; patch row 1, column 2 of 3 x 3"),
        ((2, 1), "lower centre: pixel x 4, y 7; patch row 2, column 1 of 3 x 3"),
    ],
)
def test_location(peak, expected):
    tokens = np.zeros((3, 3), np.float32)
    tokens[peak] = 1
    assert display.location(_explanation(np.kron(tokens, np.ones((3, 3))), tokens)) == f"highest at the {expected}"


def test_location_of_a_flat_map():
    for value in (-1, 0, 1):
        flat = np.full((2, 2), value, np.float32)
        assert display.location(_explanation(flat, flat)) == "the heatmap is the same everywhere"
    low = np.array([[-1, -2], [-3, 0]], np.float32)
    assert display.location(_explanation(low, low)) == "the heatmap is nowhere above zero"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("tabby, tabby cat", "tabby"),
        ("Crème brûlée / ../x", "creme-brulee-x"),
        ("猫", ""),
        ("a" * 300, "a" * 60),
    ],
)
def test_slug(label, expected):
    assert display.slug(label) == expected


def test_a_label_without_letters_is_named_by_its_index(tmp_path):
    path = build(tmp_path / "x.onnx", labels=["猫", *LABELS[1:]])
    assert run("explain", path, "cat.png", "--target", "猫", "--method", "rollout").exit_code == 0
    assert Path("explanations/cat.png.x.rollout.class-0.png").exists()


# --- info, methods, models


def test_info(artifact):
    out = run("info", artifact).stdout
    for text in ["tiny", "random", "6: tabby, tabby cat", "16 x 24", "bicubic", "2 x 3", "attention, gradient, relev"]:
        assert text in out
    assert f"{artifact}, {artifact.stat().st_size / 1e3:.1f} kB" in out
    assert ["logits", "error", "1e-07", "≤", "1e-05", "yes"] in [line.split() for line in out.splitlines()]
    assert ["relevance", "error", "2e-06", "≤", "1e-06", "NO"] in [line.split() for line in out.splitlines()]


def test_info_without_a_parity_report(tmp_path):
    assert "no report of a comparison" in run("info", build(tmp_path / "x.onnx", passes=("attention",))).stdout


def test_methods():
    out = run("methods").stdout
    for method in METHODS.values():
        assert all(text in out for text in (method.name, method.summary, method.reference))
    assert "discard_ratio=0.0" in out


# --- export, with a stand-in for the half that needs PyTorch


def test_export_defaults(exporter):
    result = run("export", "--model", "timm/vit_small.tv", "--random-init")
    path = Path("artifacts/vit_small.tv.onnx")
    assert result.exit_code == 0 and result.stderr == "" and path.exists()
    assert exporter.calls == [
        ("timm/vit_small.tv", None, True, None, None, None, None, None),
        (BACKBONE, path, "onnx", None, 20, 1.0, None, 0.0),
    ]
    assert "≤ 1e-06" in result.stdout and "≤ 1e-05" not in result.stdout and f"wrote {path}: 0.1 MB" in result.stdout
    assert f" explain {path} IMAGE" in result.stdout


def test_export_options(exporter):
    Path("labels.txt").write_text("\ufeffzero\none \n\n", encoding="utf-8")
    Path("labels.json").write_text('["zero", "one"]')
    for labels, size, passes, expected in (
        ("labels.txt", "32x48", ["--passes", "attention,gradient"], ("gradient",)),
        ("labels.json", "32", ["--passes", "relevance", "--passes", "gradient"], ("gradient", "relevance")),
        ("labels.json", "32", ["--passes", "attention"], ()),
    ):
        options = ["--labels", labels, "--image-size", size, *passes, "--num-classes", 2, "--checkpoint", "w.pth"]
        options += ["--alpha", 2, "--beta", 1, "--gamma", 0.25]
        assert run("export", "--model", "vit", "--output", "x/y.onnx", "--force", *options).exit_code == 0
        wanted = (32, 48) if "x" in size else 32
        assert exporter.calls == [
            ("vit", Path("w.pth"), False, 2, wanted, ["zero", "one"], None, None),
            (BACKBONE, Path("x/y.onnx"), "onnx", expected, 20, 2.0, 1.0, 0.25),
        ]
        exporter.calls.clear()


def test_export_of_a_head(exporter):
    result = run("export", "--model", "mae", "--head", "h.safetensors", "--head-pooling", "mean")
    assert result.exit_code == 0 and "no classes" not in result.stdout
    assert exporter.calls[0] == ("mae", None, False, None, None, None, Path("h.safetensors"), "mean")


def test_export_of_a_model_without_classes(exporter, monkeypatch):
    """What the file can do, and what it takes to have more."""
    monkeypatch.setattr(BACKBONE, "has_classes", False)
    out = run("export", "--model", "mae").stdout
    assert "vit has no classes, so the file shows attention only; maps of classes need --head FILE" in out


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
        ("must be N or HxW in pixels, such as 224 or 224x384, got '12y'", ["--model", "vit", "--image-size", "12y"]),
        ("got '0x32'", ["--model", "vit", "--image-size", "0x32"]),
        ("got '-5'", ["--model", "vit", "--image-size", "-5"]),
        ("there is no pass 'foo'; there are: attention,", ["--model", "vit", "--passes", "gradient,foo"]),
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


# --- mistakes


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("No such option: --bogus", ["--bogus"]),
        ("No such command 'explian'. Did you mean 'explain'?", ["explian"]),
        ("Missing argument 'ARTIFACT'", ["explain"]),
        ("Missing argument 'IMAGE", ["explain", "ARTIFACT"]),
        ("No such option: --tarket", ["explain", "ARTIFACT", "cat.png", "--tarket", "1"]),
        ("'--start-layer': Input should be a valid integer", ["explain", "ARTIFACT", "cat.png", "--start-layer", "x"]),
        ("Missing argument 'ARTIFACT'", ["info"]),
        ("there is no artifact nope.onnx", ["info", "nope.onnx"]),
        ("there is no artifact nope.onnx", ["explain", "nope.onnx", "cat.png"]),
        ("text.png is not an ONNX file", ["info", "text.png"]),
        ("there is no image file nope.png", ["explain", "ARTIFACT", "nope.png"]),
        ("zero.png is empty", ["explain", "ARTIFACT", "zero.png"]),
        ("text.png is not an image", ["explain", "ARTIFACT", "text.png"]),
        ("cut.png cannot be read as an image", ["explain", "ARTIFACT", "cut.png"]),
        ("File name too long", ["explain", "ARTIFACT", "x" * 300]),
        ("there is no method 'foo'", ["explain", "ARTIFACT", "cat.png", "--method", "foo"]),
        ("there is no label 'tabbi'", ["explain", "ARTIFACT", "cat.png", "--target", "tabbi"]),
        ("target 6 is out of range", ["explain", "ARTIFACT", "cat.png", "--target", "6"]),
        ("target -7 is out of range", ["explain", "ARTIFACT", "cat.png", "--target", "-7"]),
        ("there is no device 'tpu'", ["explain", "ARTIFACT", "cat.png", "--device", "tpu"]),
        ("has no parameter --head-fusion", ["explain", "ARTIFACT", "cat.png", "--head-fusion", "max"]),
        ("--start-layer must be", ["explain", "ARTIFACT", "cat.png", "--start-layer", "2"]),
        ("--start-layer must be", ["explain", "ARTIFACT", "pictures", "--start-layer", "-1"]),
        ("cannot write into text.png: it is not a folder", ["explain", "ARTIFACT", "cat.png", "--output", "text.png"]),
        ("cannot write into /proc/x", ["explain", "ARTIFACT", "cat.png", "--output", "/proc/x"]),
    ],
)
def test_mistakes(artifact, message, arguments):
    assert_mistake(message, *(artifact if argument == "ARTIFACT" else argument for argument in arguments))


def test_the_value_that_typer_refuses_is_named(artifact):
    assert_mistake("'abc'", "explain", artifact, "cat.png", "--discard-ratio", "abc")


@pytest.mark.parametrize("make", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text\nlines"])
def test_artifacts_that_are_none(artifact, make):
    Path("x.onnx").write_bytes(make(artifact.read_bytes()))
    for command in (["info", "x.onnx"], ["explain", "x.onnx", "cat.png"]):
        assert_mistake("x.onnx", *command)


def test_a_picture_that_is_too_elongated_is_named(artifact):
    Image.new("RGB", (400_000, 1)).save("line.png")
    assert_mistake("line.png: an image of 400000 x 1 pixels is too elongated", "explain", artifact, "line.png")


def _raise(error):
    def explain(*arguments, **options):
        raise error

    return explain


def test_interruption_and_errors_of_our_own(artifact, monkeypatch):
    monkeypatch.setattr(Explainer, "explain_all_many", _raise(KeyboardInterrupt()))
    assert_mistake("interrupted", "explain", artifact, "cat.png", status=130)
    monkeypatch.setattr(Explainer, "explain_all_many", _raise(ZeroDivisionError("division\nby zero")))
    message = "unexpected ZeroDivisionError: division by zero (run with ONNXPLAIN_DEBUG=1 for the traceback)"
    assert_mistake(message, "explain", artifact, "cat.png", status=1)
    monkeypatch.setenv(reporting.DEBUG, "1")
    assert isinstance(run("explain", artifact, "cat.png").exception, ZeroDivisionError)


def test_a_disk_that_fills_up_leaves_nothing_behind(artifact, monkeypatch):
    monkeypatch.setattr(Image.Image, "save", _raise(OSError(28, "No space left on device", "out/x.png")))
    assert_mistake("No space left on device", "explain", artifact, "cat.png", "--output", "pictures")


# --- as it is started


def _start(*command, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=cwd)


def test_from_the_root_of_the_repository(artifact, folder):
    done = _start("cli.py", "explain", artifact, folder / "cat.png", "--target", "-2", "--output", folder / "out")
    assert (done.returncode, done.stderr) == (0, "") and len(list((folder / "out").iterdir())) == 1
    done = _start("cli.py", "explain", artifact, folder / "zero.png", "--output", folder / "other")
    assert (done.returncode, done.stdout) == (2, "") and not (folder / "other").exists()
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_as_an_installed_command(folder):
    done = _start("-c", "from onnxplain.cli import app; app()", cwd=folder)
    assert done.returncode == 0 and "Usage: onnxplain" in done.stdout


def test_help_imports_nothing_heavy():
    heavy = ["torch", "onnxruntime", "timm", "numpy", "PIL", "onnxplain.runtime.explainer", "onnxplain.export"]
    code = f"""
import sys
from onnxplain.cli import app
try:
    app(["explain", "--help"])
except SystemExit as end:
    assert not end.code
print([name for name in {heavy} if name in sys.modules])"""
    assert _start("-c", code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("torch", ["export", "--model", "demo", "--force"], "export"), ("onnxruntime", ["methods"], "cpu")],
)
def test_what_to_install(missing, command, extra):
    done = _start("-c", f"import sys; sys.modules[{missing!r}] = None; from onnxplain.cli import app; app({command!r})")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and f"pip install 'onnxplain[{extra}]'" in done.stderr
