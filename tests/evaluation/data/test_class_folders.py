"""A folder for each class, with masks where there are any."""

import numpy as np
import pytest
from PIL import Image

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.data.opening import open_data
from onnxplain.runtime.images.loading import load_image
from onnxplain.runtime.signature import image_options
from tests.helpers.data_files import SIZE, write_image

LABELS = ["cat, house cat", "dog", "bird"]
MASK = np.zeros(SIZE)
MASK[1:3, 2:4] = 7
MASK[0] = 255
SEEN = np.where(MASK == 7, 1, MASK)


def test_samples_of_folders(tmp_path):
    for name in ("cat/1.png", "cat/deep/2.jpg", "2/3.png", "cat/.hidden.png", "cat/notes.txt"):
        write_image(tmp_path / name) if name[-3:] != "txt" else (tmp_path / name).write_text("")
    data = open_data(str(tmp_path), LABELS)
    assert [(sample.name, sample.labels) for sample in data] == [
        ("2/3.png", (2,)),
        ("cat/1.png", (0,)),
        ("cat/deep/2.jpg", (0,)),
    ]
    assert not data.warnings and not any(sample.regions for sample in data)
    assert load_image(data[0].image).size == (6, 4)
    assert data.description == str(tmp_path)


@pytest.mark.parametrize(
    ("images", "masks", "given"),
    [
        ("images", "masks", "."),
        ("images", "masks", "images"),
        ("", "masks", "."),
        ("val", "val-segmentation", "val"),
        ("validation", "validation-segmentation", "."),
    ],
)
def test_where_masks_may_be(tmp_path, images, masks, given):
    write_image(tmp_path / images / "cat" / "1.jpg")
    write_image(tmp_path / images / "dog" / "2.png")
    if masks == "masks":
        write_image(tmp_path / masks / "cat" / "1.png", MASK)
        data = open_data(str(tmp_path / given), LABELS)
        assert data.warnings == (f"1 of 2 images have no mask in {tmp_path / masks}",)
        assert data.description.endswith("with masks") and not data[1].regions
        np.testing.assert_array_equal(data[0].regions[0].mask(SIZE), SEEN)
    else:  # as in ImageNet-S, which has 50 classes at least
        (tmp_path / masks).mkdir()
        with pytest.raises(OnnxplainError, match=r"among all 50, 300, 919 of a variant of ImageNet-S, and there are 2"):
            open_data(str(tmp_path / given), LABELS)


def test_imagenet_s(tmp_path):
    """A class's ID is its place among the 50 folders from 1 on; red has its lower bits and green the others."""
    names = [f"n{number:08}" for number in range(50)]
    for name in names:
        write_image(tmp_path / "validation" / name / "x.JPEG".lower())
    ids = np.zeros(SIZE, int)
    ids[1:3, 2:4], ids[0], ids[3] = 31, 1000, 30 + 256
    values = np.stack([ids % 256, ids // 256, 0 * ids], axis=-1)
    write_image(tmp_path / "validation-segmentation" / names[30] / "x.png", values)
    data = open_data(str(tmp_path), names)
    np.testing.assert_array_equal(data[30].regions[30].mask(SIZE), SEEN)
    write_image(tmp_path / "validation-segmentation" / names[30] / "x.png", MASK)
    with pytest.raises(OnnxplainError, match=r"x.png is no mask of ImageNet-S, which are RGB images$"):
        data[30].regions[30].mask(SIZE)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_kinds_of_masks(tmp_path, mode):
    write_image(tmp_path / "cat" / "1.png")
    path = tmp_path / "masks" / "cat" / "1.png"
    write_image(path)
    values = np.where(MASK == 7, 1, 0 if mode == "1" else MASK)
    image = Image.fromarray(
        values.astype(bool) if mode == "1" else values.astype(np.uint16 if mode == "I;16" else np.uint8)
    )
    if mode == "P":
        image = image.convert("L")
        image.putpalette([0, 0, 0, 255, 255, 255] * 128)
    assert image.mode == mode
    image.save(path)
    (sample,) = open_data(str(tmp_path), LABELS)
    np.testing.assert_array_equal(sample.regions[0].mask(SIZE), values)


def test_bad_masks_are_errors_of_one_image(tmp_path):
    write_image(tmp_path / "cat" / "1.png")
    path = tmp_path / "masks" / "cat" / "1.png"
    write_image(path, MASK)
    (sample,) = open_data(str(tmp_path), LABELS)
    region = sample.regions[0]
    with pytest.raises(
        OnnxplainError, match=r"^the mask .*1.png is for 6 x 4 pixels, and the image has 8 x 4; make both"
    ):
        region.mask((4, 8))
    write_image(path, np.where(MASK == 7, 255, 0))
    with pytest.raises(
        OnnxplainError, match=r"1.png has no pixels of an object, only 0 and 255, which is ignored; write 1"
    ):
        region.mask(SIZE)
    write_image(path)
    with pytest.raises(OnnxplainError, match=r"1.png is a mask of 3 channels; it must have one$"):
        region.mask(SIZE)
    write_image(path, np.random.default_rng(0).integers(0, 256, SIZE))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(OnnxplainError, match=r"1.png cannot be read as a mask, it may be damaged: [^\n]+$"):
        region.mask(SIZE)
    path.write_bytes(b"no image")
    with pytest.raises(OnnxplainError, match=r"1.png is not an image[^\n]+$"):
        region.mask(SIZE)
    path.unlink()
    with pytest.raises(OnnxplainError, match=r"^there is no image file .*1.png$"):
        region.mask(SIZE)


def test_a_corrupt_image_among_others_is_an_error_of_that_one(tmp_path):
    for number in range(20):
        write_image(tmp_path / "cat" / f"{number:02}.png")
    (tmp_path / "cat" / "07.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    data = open_data(str(tmp_path), LABELS)
    assert len(data) == 20 and load_image(data[8].image)
    with pytest.raises(OnnxplainError, match=r"^[^\n]*07.png[^\n]+$"):
        load_image(data[7].image)


def test_images_are_not_opened(tmp_path, monkeypatch):
    write_image(tmp_path / "images" / "cat" / "1.png")
    write_image(tmp_path / "masks" / "cat" / "1.png", MASK)
    monkeypatch.setattr(Image, "open", None)
    assert len(list(open_data(str(tmp_path), LABELS))) == 1


def test_a_limit_takes_images_of_all_classes(tmp_path):
    for label, count in (("cat", 6), ("dog", 3), ("bird", 3)):
        for number in range(count):
            write_image(tmp_path / label / f"{number}.png")
    names = open_data(str(tmp_path), LABELS, limit=4).names
    assert names == ("bird/0.png", "cat/0.png", "cat/3.png", "dog/0.png")
    assert len(open_data(str(tmp_path), LABELS, limit=99)) == 12


def test_what_onnxplain_made_and_other_classes_are_skipped(tmp_path):
    for label in ("cat", "zebra"):
        write_image(tmp_path / label / "1.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "cat" / "2.png", **image_options("png", {}))
    data = open_data(str(tmp_path), LABELS)
    assert data.names == ("cat/1.png",) and data.warnings == (
        "classes that the artifact does not have, skipped: 1 of 2: 'zebra'",
        "1 images that onnxplain made were skipped",
    )


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(OnnxplainError, match=r"^there are no folders in .*; it must hold one folder for each class"):
        open_data(str(tmp_path), LABELS)
    (tmp_path / "cat").mkdir()
    with pytest.raises(OnnxplainError, match=r"^there are no images in .*cat; they would end in "):
        open_data(str(tmp_path), LABELS)
    write_image(tmp_path / "cat" / "1.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(
        OnnxplainError, match=r"^there is no mask for any image of .*; that of .*1.png would be .*1.png$"
    ):
        open_data(str(tmp_path), LABELS)
    with pytest.raises(OnnxplainError, match=r"has no class of the artifact: there is no label 'cat'"):
        open_data(str(tmp_path), ["lion", "tiger"])


def test_images_without_folders_have_no_classes(tmp_path):
    for name in ("1.png", "2.jpg", ".hidden.png"):
        write_image(tmp_path / name)
    Image.new("RGB", (4, 4)).save(tmp_path / "3.png", **image_options("png", {}))
    data = open_data(str(tmp_path), LABELS)
    assert [(sample.name, sample.labels) for sample in data] == [("1.png", ()), ("2.jpg", ())]
    assert data.warnings == ("1 images that onnxplain made were skipped",)
    assert len(open_data(str(tmp_path), LABELS, limit=1)) == 1
