"""JSON files of COCO."""

import pickle

import numpy as np
import pytest

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.data.opening import open_data
from onnxplain.runtime.images.loading import load_image
from tests.helpers.data_files import SIZE, write_coco, write_image

LABELS = ["dog", "cat, house cat"]
BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "area": 4}
SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]


def region_of(tmp_path, *annotations, label=1):
    write_image(tmp_path / "a.png")
    write_coco(tmp_path / "list.json", annotations=annotations)
    return pickle.loads(pickle.dumps(open_data(str(tmp_path / "list.json"), LABELS)))[0].regions[label]


def square(top, left, bottom, right, value=1):
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = value
    return mask


@pytest.mark.parametrize(
    "segment",
    [
        {},
        {"segmentation": []},
        {"segmentation": [SQUARE]},
        {"segmentation": [[1, 1, 2, 1, 2, 3, 1, 3], [2, 1, 3, 1, 3, 3, 2, 3]]},
        {"segmentation": {"size": list(SIZE), "counts": [5, 2, 2, 2, 13]}},
        {"segmentation": {"size": list(SIZE), "counts": "5220;"}},
    ],
    ids=["box", "no polygon", "polygon", "two polygons", "runs", "compressed runs"],
)
def test_kinds_of_segments(tmp_path, segment):
    np.testing.assert_array_equal(region_of(tmp_path, BOX | segment).mask(SIZE), square(1, 1, 3, 3))


def test_a_crowd_is_ignored_where_there_is_no_object(tmp_path):
    crowd = BOX | {"iscrowd": 1, "bbox": [0, 0, 6, 2]}
    expected = np.maximum(square(0, 0, 2, 6, 255), 0)
    expected[1:3, 1:3] = 1
    for annotations in ((crowd, BOX), (BOX, crowd)):
        np.testing.assert_array_equal(region_of(tmp_path, *annotations).mask(SIZE), expected)


def test_samples_have_the_classes_that_the_artifact_knows(tmp_path):
    for name in "abcd":
        write_image(tmp_path / f"{name}.png")
    annotations = [BOX, BOX | {"category_id": 2}, BOX | {"category_id": 3}, BOX | {"image_id": 2, "category_id": 3}]
    annotations += [BOX | {"image_id": 4, "bbox": [0, 0, 1, 1]}, BOX | {"image_id": 4, "bbox": [5, 3, 1, 1]}]
    names = ["a.png", "b.png", "c.png", "d.png"]
    write_coco(tmp_path / "annotations.json", names, annotations, ("cat", "dog", "zebra"))
    data = open_data(str(tmp_path), LABELS)
    assert [(sample.name, sample.labels) for sample in data] == [("a.png", (0, 1)), ("d.png", (1,))]
    assert data.warnings == (
        "classes that the artifact does not have, skipped: 1 of 3: 'zebra'",
        "2 of 4 images show no class of the artifact: skipped",
    )
    assert data.description == str(tmp_path / "annotations.json")
    assert data[1].regions[1].mask(SIZE).sum() == 2 and load_image(data[1].image).size == (6, 4)
    assert open_data(str(tmp_path), LABELS, limit=1).names == ("a.png",)


@pytest.mark.parametrize(
    ("listing", "images"),
    [
        ("list.json", "."),
        ("list.json", "images"),
        ("annotations/list.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
    ],
)
def test_where_images_may_be(tmp_path, listing, images):
    write_image(tmp_path / images / "a.png")
    write_coco(tmp_path / listing, ["a.png"], [BOX])
    (sample,) = open_data(str(tmp_path / listing), LABELS)
    assert load_image(sample.image)


def test_images_that_are_not_there(tmp_path):
    path = tmp_path / "list.json"
    write_coco(path, ["a.png", "b.png"], [BOX, BOX | {"image_id": 2}])
    with pytest.raises(
        OnnxplainError, match=r"^none of the 2 images that .*list.json lists is there; the first, a.png, is"
    ):
        open_data(str(path), LABELS)
    write_image(tmp_path / "b.png")
    data = open_data(str(path), LABELS)
    assert data.names == ("b.png",)
    assert data.warnings == (f"1 of 2 images that {path} lists are not there: a.png",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "is no file of COCO: it has no list of images$"),
        ({"annotations": {}}, "is no file of COCO: it has no list of annotations$"),
        ({"annotations": []}, "lists no images$"),
        (
            {"images": [{"id": 1, "file_name": "a.png", "height": "4", "width": 6}]},
            "entry 0 of images has no height, or",
        ),
        ({"annotations": [BOX, {"image_id": 1}]}, "entry 1 of annotations has no category_id, or not one"),
        ({"categories": [7]}, "entry 0 of categories has no id, or"),
        ({"categories": [{"id": 1, "name": "zebra"}]}, "has no class of the artifact: there is no label 'zebra'"),
        (
            {"images": 2 * [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}]},
            "lists images several times: a.png;",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, message):
    write_image(tmp_path / "a.png")
    write_coco(tmp_path / "list.json", ["a.png"], [BOX], changes=change)
    with pytest.raises(OnnxplainError, match=message) as raised:
        open_data(str(tmp_path / "list.json"), LABELS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "[]", '{"images"', "[" * 100_000, "\xff"])
def test_files_that_are_something_else(tmp_path, text):
    (tmp_path / "list.json").write_text(text, "latin-1")
    with pytest.raises(OnnxplainError, match=r"^[^\n]*list.json[^\n]*(is not valid JSON|no file of COCO|UTF-8)[^\n]*$"):
        open_data(str(tmp_path / "list.json"), LABELS)


@pytest.mark.parametrize(
    "segment",
    [
        {"bbox": [1, 1, 2]},
        {"bbox": None},
        {"segmentation": [[1, 1, 3]]},
        {"segmentation": ["abc"]},
        {"segmentation": {"counts": [24]}},
        {"segmentation": {"size": [5, 6], "counts": [30]}},
        {"segmentation": {"size": list(SIZE), "counts": [3]}},
        {"segmentation": {"size": list(SIZE), "counts": {"a": 1}}},
    ],
)
def test_bad_annotations_are_errors_of_one_image(tmp_path, segment):
    region = region_of(tmp_path, BOX | segment)
    with pytest.raises(OnnxplainError, match=r"^annotation 1 of a.png cannot be drawn: [^\n]+$"):
        region.mask(SIZE)


def test_an_image_of_another_size_is_an_error_of_that_one(tmp_path):
    region = region_of(tmp_path, BOX)
    with pytest.raises(OnnxplainError, match=r"^the mask of a.png is for 6 x 4 pixels, and the image has 5 x 4;"):
        region.mask((4, 5))


@pytest.mark.parametrize("box", [{"bbox": [1, 1, 2]}, {"bbox": None}, {"bbox": 3}])
def test_a_bad_box_is_told_with_what_it_must_be(tmp_path, box):
    message = r"it has no segmentation, and its bbox must be left, top, width, height, got "
    with pytest.raises(OnnxplainError, match=message):
        region_of(tmp_path, BOX | box).mask(SIZE)
