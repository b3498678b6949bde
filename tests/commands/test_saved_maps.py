"""`explain --save`: the maps that programs read back are those of the Explainer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands import saved_maps
from onnxplain.commands.destination import Destination
from onnxplain.runtime import Explainer
from onnxplain.runtime.signature import is_signed
from tests.helpers.command_line import assert_mistake, random_image, run
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import GRID, LABELS, SIZE

TWO = ["--method", "gradient", "--method", "rollout", "--target", 4, "--target", 0, "--target", 2]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def expected(artifact):
    random_image(3, 90, 50).save("wide.png")
    return Explainer(artifact, "cpu").explain_all("wide.png", [4, 0, 2], methods=["gradient", "rollout"])


def _line(*arguments):
    result = run("explain", *arguments, "--json")
    assert result.exit_code == 0 and result.stderr == "", result.stderr
    return json.loads(result.stdout)


def test_npz(artifact, expected):
    line = _line(artifact, "wide.png", *TWO, "--save", "npz")
    *figures, file = line.pop("files")
    path = "explanations/wide.png.tiny.maps.npz"
    assert file == {"path": path, "kind": "map", "key": None, "target": None, "scale": None}
    assert [figure["kind"] for figure in figures] == ["figure"] * 6
    with np.load(path) as saved:  # runs no pickles
        assert saved["methods"].tolist() == ["gradient", "rollout"] and saved["targets"].tolist() == [4, 0, 2]
        assert saved["targets"].dtype == np.int64 and json.loads(saved["about"].item()) == line
        for name, shape in (("heatmap", (50, 90)), ("input_heatmap", SIZE), ("tokens", GRID)):
            assert saved[name].shape == (2, 3, *shape) and saved[name].dtype == np.float32
            for row, items in enumerate(expected.values()):
                for column, item in enumerate(items):
                    np.testing.assert_array_equal(saved[name][row, column], getattr(item, name))
        assert set(saved) == {"heatmap", "input_heatmap", "tokens", "methods", "targets", "about"}
    first = Path(path).read_bytes()
    run("explain", artifact, "wide.png", *TWO, "--save", "npz", "--no-figures")
    assert Path("explanations/wide.png.tiny.maps-2.npz").read_bytes() == first


def test_npy(artifact, expected):
    files = _line(artifact, "wide.png", *TWO, "--save", "npy", "--no-figures")["files"]
    items = [item for items in expected.values() for item in items]
    names = ["dog", "tabby", "crane"]
    assert [file["path"] for file in files] == [
        f"explanations/wide.png.tiny.{method}.{name}.npy" for method in expected for name in names
    ]
    for file, item in zip(files, items, strict=True):
        assert (file["kind"], file["key"], file["target"], file["scale"]) == ("map", item.method, item.target, None)
        saved = np.load(file["path"])
        assert saved.dtype == np.float32
        np.testing.assert_array_equal(saved, item.heatmap)


def test_png16(artifact, expected):
    """Values come back to half a step of 65535, by the texts as by the document."""
    files = _line(artifact, "wide.png", *TWO, "--save", "png16")["files"]
    maps = [file for file in files if file["kind"] == "map"]
    items = [item for items in expected.values() for item in items]
    assert len(files) == 12 and maps[0]["path"] == "explanations/wide.png.tiny.gradient.dog.map.png"
    for file, item in zip(maps, items, strict=True):
        low, high = file["scale"]
        assert (low, high) == (item.heatmap.min(), item.heatmap.max())
        with Image.open(file["path"]) as image:
            assert (image.mode, image.size) == ("I;16", (90, 50))
            pixels = np.asarray(image).astype(np.float64)
            assert (float(image.text["Low"]), float(image.text["High"])) == (low, high)
            assert (image.text["Method"], image.text["Class"]) == (item.method, LABELS[item.target])
        assert pixels.min() == 0 and pixels.max() == 65535
        assert np.abs(low + pixels / 65535 * (high - low) - item.heatmap).max() <= (high - low) / 65535 * 0.5001
        assert is_signed(Path(file["path"]))


def test_a_constant_map_as_png16(expected, tmp_path):
    """It has no range to be divided by."""
    item = replace(expected["rollout"][0], placed=np.full((50, 90), 0.3, np.float32))
    product = saved_maps.MapFiles(Destination(tmp_path, {}, Path("a.onnx")), "png16")
    with np.errstate(all="raise"):
        (file,) = product.write(Path("x.png"), {"rollout": [item]})
    with Image.open(file.path) as image:
        assert not np.asarray(image).any() and file.scale == (np.float32(0.3), np.float32(0.3))


@pytest.mark.parametrize("format", saved_maps.FORMATS)
def test_of_an_artifact_that_takes_images(format, tmp_path):
    file = build_plain(tmp_path / "whole.onnx", ("attention_gradcam",), input="image")
    item = Explainer(file, "cpu").explain("cat.png", 3)
    (saved,) = _line(file, "cat.png", "--target", 3, "--save", format, "--no-figures")["files"]
    assert Path(saved["path"]).is_file() and item.placed is not None
    if format == "npy":
        np.testing.assert_array_equal(np.load(saved["path"]), item.placed)
    if format == "npz":
        np.testing.assert_array_equal(np.load(saved["path"])["heatmap"][0, 0], item.placed)


def test_what_is_told_in_words(artifact):
    result = run("explain", artifact, "cat.png", "--method", "rollout", "--target", 3, "--save", "npy")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and "wrote 2 files into explanations" in lines
    assert "  explanations/cat.png.tiny.rollout.crane.npy" in lines
    result = run("explain", artifact, "cat.png", "--all-methods", "--save", "npz")
    assert "  explanations/cat.png.tiny.maps.npz" in result.stdout.splitlines()
    assert "  explanations/cat.png.tiny.sheet.png" in result.stdout.splitlines()


def test_maps_are_no_images_to_explain(artifact):
    run("explain", artifact, "pictures", "--method", "rollout", "--save", "png16", "--output", "pictures")
    result = run("explain", artifact, "pictures", "--method", "rollout")
    assert "explained 3 of 3 images" in result.stdout and "6 images that onnxplain made were skipped" in result.stdout


def test_unknown_format(artifact):
    assert_mistake("did you mean 'png16'?", "explain", artifact, "cat.png", "--save", "png")
    assert_mistake("npz, npy, png16", "explain", artifact, "cat.png", "--save", "mat")
