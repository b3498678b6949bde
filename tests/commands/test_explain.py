"""`explain`: the classes, places and overlays that it prints and writes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands import display
from onnxplain.runtime import Explainer, Explanation, OnnxplainError, Placement
from tests.helpers.command_line import (
    assert_mistake,
    random_image,
    read_pixels,
    run,
)
from tests.helpers.tiny_artifact import LABELS, build

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("folder")


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
        np.testing.assert_array_equal(read_pixels(path), np.asarray(item.figure()))
    assert len(list(Path("new/out").iterdir())) == 2


def test_explain_passes_on_the_parameters_given(artifact):
    options = ["--head-fusion", "max", "--discard-ratio", "0.5", "--start-layer", "1", "--device", "cpu"]
    assert run("explain", artifact, "cat.png", "--method", "rollout", "--target", 3, *options).exit_code == 0
    expected = Explainer(artifact).explain("cat.png", 3, "rollout", head_fusion="max", discard_ratio=0.5, start_layer=1)
    np.testing.assert_array_equal(
        read_pixels("explanations/cat.png.tiny.rollout.crane.png"), np.asarray(expected.figure())
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


def test_folders_are_explained_in_order_and_a_bad_image_does_not_cost_the_others(artifact):
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
    return Explanation(heatmap, tokens, 0, "x", 0.0, 0.5, [], "m", "rollout", {}, image, placement)


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


@pytest.mark.parametrize(("name", "count", "packed"), [("x.onnx", 9, False), ("x.onnx", 10, True), ("x.pt", 10, False)])
def test_weights_are_packed_for_many_images_where_they_can_be(name, count, packed, folder, monkeypatch):
    def opened(*arguments, **options):
        raise OnnxplainError(f"packed is {options['packed']}")

    monkeypatch.setattr("onnxplain.runtime.Explainer", opened)
    images = [shutil.copy("cat.png", f"{index}.png") for index in range(count)]
    assert_mistake(f"packed is {packed}", "explain", name, *images)
