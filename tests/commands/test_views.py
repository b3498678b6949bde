"""`heads` and `features`: what they print and write, and their mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.runtime import Explainer
from onnxplain.runtime.signature import is_signed
from tests.helpers.command_line import assert_mistake, random_image, read_pixels, run
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import build

pytestmark = pytest.mark.usefixtures("folder")
BOTH = pytest.mark.parametrize(("command", "ending"), [("heads", "heads.layer-1"), ("features", "features")])


def written(folder="explanations"):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_heads(artifact):
    result = run("heads", artifact, "cat.png", "--layer", -2, "--output", "new/out")
    assert result.exit_code == 0 and result.stderr == ""
    path = Path("new/out/cat.png.tiny.heads.layer-0.png")
    assert "cat.png, 60 x 40 pixels\n  layer 0, 2 heads\n" in result.stdout and str(path) in result.stdout
    assert "wrote 1 file into new/out" in result.stdout
    np.testing.assert_array_equal(read_pixels(path), np.asarray(Explainer(artifact).heads("cat.png", 0).figure()))
    assert is_signed(path) and Image.open(path).text["Model"] == "tiny"


@pytest.mark.parametrize("command", ["heads", "features"])
def test_sizes_are_those_of_the_files(command, artifact):
    """Also of what is drawn smaller."""
    Image.new("RGB", (1500, 300), "red").save("wide.png")
    assert "wide.png, 1500 x 300 pixels" in run(command, artifact, "wide.png").stdout


def test_features_of_several_images_are_taken_together(artifact):
    result = run("features", artifact, "cat.png", "pictures")
    assert result.exit_code == 0 and result.stderr == ""
    names = ["cat.png", "pictures/a.png", "pictures/b.webp", "pictures/c.JPG"]
    together = Explainer(artifact).features(names)
    for number, name in enumerate(names):
        share = together.foreground[number].mean()
        assert f"{name}, 60 x 40 pixels\n  foreground: {share:.0%} of the patches\n" in result.stdout
        path = Path("explanations", f"{Path(name).name}.tiny.features.png")
        np.testing.assert_array_equal(read_pixels(path), np.asarray(together.figure(number)))
    assert re.search(r"showed 4 of 4 images in [\d.]+ s on cpu\nwrote 4 files into explanations\n$", result.stdout)
    alone = Explainer(artifact).features("cat.png").figure()
    assert not np.array_equal(read_pixels("explanations/cat.png.tiny.features.png"), np.asarray(alone))


@BOTH
def test_files_say_what_they_show(command, ending, artifact):
    assert run(command, artifact, "cat.png").exit_code == 0
    with Image.open(f"explanations/cat.png.tiny.{ending}.png") as image:
        assert image.text == {"Software": "onnxplain", "Model": "tiny", "View": ending}


@BOTH
def test_bad_images_are_listed(command, ending, artifact):
    """The others are shown, those of features as if the bad ones were not there."""
    result = run(command, artifact, "zero.png", "pictures/a.png", "cut.png", "cat.png", "empty")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "folder empty" in lines[0] and "zero.png" in lines[1] and "cut.png" in lines[2]
    assert "showed 2 of 4 images" in result.stdout
    assert written() == [f"a.png.tiny.{ending}.png", f"cat.png.tiny.{ending}.png"]
    if command == "features":
        right = Explainer(artifact).features(["pictures/a.png", "cat.png"]).figure(0)
        np.testing.assert_array_equal(read_pixels("explanations/a.png.tiny.features.png"), np.asarray(right))


@BOTH
def test_no_image_at_all(command, ending, artifact):
    result = run(command, artifact, "zero.png")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and "zero.png" in result.stderr
    assert not Path("explanations").exists()


@BOTH
def test_folders_and_files_that_are_there(command, ending, artifact):
    Path("pictures/deep").mkdir()
    random_image(5).save("pictures/deep/d.png")
    for _ in range(2):
        assert run(command, artifact, "pictures", "--recursive", "--output", "pictures/out", "--quiet").exit_code == 0
    names = [f"a.png.tiny.{ending}", f"b.webp.tiny.{ending}", f"c.JPG.tiny.{ending}", f"deep/d.png.tiny.{ending}"]
    assert written("pictures/out") == sorted(f"{name}{again}.png" for name in names for again in ("", "-2"))
    result = run(command, artifact, "pictures")
    assert "1 sub-folder was skipped" not in result.stdout and "2 sub-folders were skipped" in result.stdout


@BOTH
@pytest.mark.parametrize("format", ["png", "jpg", "webp", "svg"])
def test_formats(command, ending, format, artifact):
    result = run(command, artifact, "cat.png", "--format", format, "--quiet")
    assert result.exit_code == 0 and result.output == ""
    assert written() == [f"cat.png.tiny.{ending}.{format}"]


@BOTH
def test_standard_input(command, ending, artifact):
    result = CliRunner().invoke(cli.app, [command, str(artifact), "-"], input=Path("cat.png").read_bytes())
    assert result.exit_code == 0 and "stdin, 60 x 40 pixels" in result.stdout
    assert written() == [f"stdin.tiny.{ending}.png"]


@BOTH
def test_mistakes(command, ending, artifact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    plain = build_plain(folder / "plain.onnx")
    assert_mistake("this artifact has heatmaps only", command, plain, "cat.png")
    assert_mistake("there is no artifact nowhere.onnx", command, "nowhere.onnx", "cat.png")
    assert_mistake("there is no format of figures 'bmp'", command, artifact, "cat.png", "--format", "bmp")
    assert_mistake("cannot write into cat.png", command, artifact, "cat.png", "--output", "cat.png")
    assert_mistake("tpu", command, artifact, "cat.png", "--device", "tpu")


def test_no_such_layer(artifact):
    assert_mistake("--layer must be a layer number", "heads", artifact, "cat.png", "--layer", 2)


def test_no_features(tmp_path_factory):
    path = build(tmp_path_factory.mktemp("artifacts") / "old.onnx", passes=("attention", "gradient"))
    message = "it has: attention, gradient; export it again with --passes attention,gradient,features"
    assert_mistake(message, "features", path, "cat.png")
    assert run("heads", path, "cat.png").exit_code == 0


@pytest.mark.parametrize("command", ["heads", "features", "explain"])
def test_an_artifact_among_the_images(command, artifact):
    assert_mistake("tiny.onnx is an artifact, not an image", command, artifact, "cat.png", artifact)
