"""Where overlays go, what they are called, and that they are no pictures to explain when a folder is run again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from onnxplain.commands.destination import Destination
from onnxplain.commands.products import Figures, Written
from onnxplain.commands.sweep import MOST
from onnxplain.runtime import Explainer, Style
from onnxplain.runtime.signature import image_options, is_signed
from tests.helpers.command_line import assert_mistake, random_image, run
from tests.helpers.tiny_artifact import LABELS, build

pytestmark = pytest.mark.usefixtures("folder")

ROLLOUT = ["--method", "rollout", "--target", "3"]


def _names(place="explanations"):
    return sorted(str(path.relative_to(place)) for path in Path(place).rglob("*") if path.is_file())


def test_images_of_one_name_and_two_artifacts_do_not_collide(artifact, tmp_path):
    random_image(1).save("cat.tiff")
    other = build(tmp_path / "other.onnx")
    for file in (artifact, other):
        assert run("explain", file, "cat.png", "cat.tiff", *ROLLOUT).exit_code == 0
    assert _names() == [
        f"cat.{suffix}.{model}.rollout.crane.png" for suffix in ("png", "tiff") for model in ("other", "tiny")
    ]


@pytest.mark.parametrize("options", [ROLLOUT, ["--sheet", "--method", "rollout"]])
def test_run_again_in_the_folder_of_the_images(artifact, options):
    """The overlays among them are no pictures to explain, and are counted; named, they are."""
    first = run("explain", artifact, "pictures", *options, "--output", "pictures")
    assert "explained 3 of 3 images" in first.stdout and "skipped" not in first.stdout
    before = _names("pictures")
    again = run("explain", artifact, "pictures", *options, "--output", "pictures")
    assert again.exit_code == 0 and "explained 3 of 3 images" in again.stdout
    assert "3 images that onnxplain made were skipped" in again.stdout
    new = sorted(set(_names("pictures")) - set(before))
    assert len(new) == 3 and all(name.endswith("-2.png") for name in new)
    assert run("explain", artifact, Path("pictures", new[0]), *options).exit_code == 0
    for name in ("a.png", "b.webp", "c.JPG"):
        Path("pictures", name).unlink()
    line = "no images in the folder pictures; they would end in "
    result = assert_mistake(line, "explain", artifact, "pictures")
    assert "6 images that onnxplain made were skipped" in result.stderr


def test_what_overlays_say_of_themselves(artifact):
    assert run("explain", artifact, "cat.png", *ROLLOUT).exit_code == 0
    assert run("explain", artifact, "cat.png", "--sheet", "--method", "rollout", "--method", "gmar").exit_code == 0
    with Image.open("explanations/cat.png.tiny.rollout.crane.png") as overlay:
        assert overlay.text == {"Software": "onnxplain", "Model": "tiny", "Method": "rollout", "Class": LABELS[3]}
    with Image.open("explanations/cat.png.tiny.sheet.png") as sheet:
        assert sheet.text["Method"] == "rollout, gmar"


def test_what_is_signed(tmp_path):
    """Whatever else stands before the text; other programs' pictures are not, nor is what is no PNG."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (9, 9)).save(tmp_path / "ours.png", **image_options("png", {"Class": "猫"}), icc_profile=profile)
    assert is_signed(tmp_path / "ours.png")
    frames = [random_image(number, 9, 9) for number in range(MOST)]  # of an animation, before the text in a WebP
    for name in ("ours.webp", "ours.gif"):
        options = image_options(name[5:], {"Class": "long " * 20000})
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    frames[0].save(tmp_path / "ours.jpg", **image_options("jpg", {"Class": "猫" * 30000}))
    for name in ("ours.webp", "ours.gif", "ours.jpg"):
        assert is_signed(tmp_path / name), name
    random_image(0).save(tmp_path / "other.png")
    random_image(0).save(tmp_path / "other.jpg")
    (tmp_path / "text.png").write_text("Software\0onnxplain")
    (tmp_path / "empty.png").touch()
    content = (tmp_path / "ours.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: content.index(b"tEXt")])
    for name in ("other.png", "other.jpg", "text.png", "empty.png", "cut.png", "none.png"):
        assert not is_signed(tmp_path / name), name


def _nested():
    for place in ("pictures/x/deep", "pictures/y", "pictures/.hidden", "pictures/notes"):
        Path(place).mkdir(parents=True)
    for name in ("x/deep/a.png", "y/a.png", ".hidden/a.png", "y/._a.png"):
        random_image(0).save(Path("pictures", name))
    Path("pictures/notes/a.txt").write_text("no picture")
    Path("pictures/loop").symlink_to("..")


def test_sub_folders_are_counted_or_explained_into_the_same(artifact):
    _nested()
    flat = run("explain", artifact, "pictures", *ROLLOUT, "--output", "flat")
    assert "3 sub-folders were skipped; --recursive takes the images in them too" in flat.stdout
    end = ".tiny.rollout.crane.png"
    assert _names("flat") == [f"{name}{end}" for name in ("a.png", "b.webp", "c.JPG")]
    deep = run("explain", artifact, "pictures", *ROLLOUT, "--recursive", "--output", "deep")
    assert "skipped" not in deep.stdout and "explained 5 of 5 images" in deep.stdout
    assert "wrote 5 files into deep" in deep.stdout
    assert _names("deep") == [f"{name}{end}" for name in ("a.png", "b.webp", "c.JPG", "x/deep/a.png", "y/a.png")]
    shutil.rmtree("pictures/x")
    for name in ("a.png", "b.webp", "c.JPG"):
        Path("pictures", name).unlink()
    result = assert_mistake("no images in the folder pictures", "explain", artifact, "pictures")
    assert "2 sub-folders were skipped; --recursive takes the images in them too" in result.stderr


def test_overlays_below_are_neither_explained_nor_counted_as_images(artifact):
    for _ in range(2):
        result = run("explain", artifact, "pictures", *ROLLOUT, "--output", "pictures/maps")
        assert result.exit_code == 0 and "explained 3 of 3 images" in result.stdout
    result = run("explain", artifact, "pictures", *ROLLOUT, "--recursive")
    assert "explained 3 of 3 images" in result.stdout
    assert "6 images that onnxplain made were skipped" in result.stdout


def test_a_sub_folder_that_cannot_be_read_does_not_cost_the_others(artifact, monkeypatch):
    import os

    _nested()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    result = run("explain", artifact, "pictures", *ROLLOUT, "--recursive")
    assert result.exit_code == 2 and "explained 4 of 4 images" in result.stdout
    assert result.stderr == "error: pictures/x/deep cannot be read: Permission denied\n"


@pytest.mark.parametrize("length", [200, 246, 250])
@pytest.mark.parametrize("letter", ["x", "猫"])
def test_long_names_are_cut(artifact, tmp_path, letter, length):
    """Of pictures and of artifacts, in bytes; what tells them apart stays."""
    name = letter * (length // len(letter.encode()))
    picture, file = tmp_path / f"{name}.png", tmp_path / f"{name}.onnx"
    random_image(0).save(picture)
    shutil.copy(artifact, file)
    for _ in range(2):
        assert run("explain", file, picture, *ROLLOUT).exit_code == 0
    assert len(_names()) == 2 and all(".rollout.crane" in item and item[:40] == letter * 40 for item in _names())


def test_long_methods_are_cut(artifact):
    """A method with all of its parameters, such as a seed of many digits."""
    method = f"rise:masks=2,cells=3,probability=0.5,seed={'9' * 300}"
    for _ in range(2):
        assert run("explain", artifact, "cat.png", "--method", method).exit_code == 0
    assert len(_names()) == 2 and all(len(name) < 255 and name.startswith("cat.png.tiny.rise-") for name in _names())


def test_destination_by_image(artifact, tmp_path):
    answer = Explainer(artifact, "cpu").explain_all("cat.png", [3], methods=["rollout"])
    figures = Figures(Destination(tmp_path / "out", {Path("in/x/cat.png"): Path("x")}, artifact), Style(), "png")
    (file,) = figures.write(Path("in/x/cat.png"), answer)
    assert file == Written(tmp_path / "out/x/cat.png.tiny.rollout.crane.png", "figure", "rollout", 3)
    with Image.open(file.path) as overlay:
        np.testing.assert_array_equal(np.asarray(overlay), np.asarray(answer["rollout"][0].figure()))
