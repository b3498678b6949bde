"""CSV files, and what is no data at all."""

import numpy as np
import pytest

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.data.opening import open_data
from onnxplain.runtime.images.loading import load_image
from tests.helpers.data_files import SIZE, write_coco, write_image

LABELS = ["dog", "cat, house cat"]


def opened(tmp_path, text, images=("a.png", "x/b.png"), **arguments):
    for name in images:
        write_image(tmp_path / name)
    (tmp_path / "list.csv").write_text(text)
    return open_data(str(tmp_path / "list.csv"), LABELS, **arguments)


def test_labels_without_boxes(tmp_path):
    data = opened(tmp_path, 'path,label\na.png,dog\n./x/b.png,"cat, house cat"\na.png,1\n\n')
    assert [(sample.name, sample.labels) for sample in data] == [("a.png", (0, 1)), ("x/b.png", (1,))]
    assert not any(sample.regions for sample in data) and not data.warnings
    assert load_image(data[1].image).size == (6, 4)
    assert data.description == str(tmp_path / "list.csv")


def test_several_boxes_of_one_image(tmp_path):
    rows = [
        "path,label,x0,y0,x1,y1",
        "a.png,dog,0,0,2,1",
        "a.png,dog,4,2,6,4",
        "a.png,cat,1.5,1,3,2",
        "x/b.png,cat,,,,",
    ]
    first, second = opened(tmp_path, "\ufeff" + "\r\n".join(rows))
    dogs, cats = np.zeros(SIZE), np.zeros(SIZE)
    dogs[0:1, 0:2] = dogs[2:4, 4:6] = cats[1, 1:3] = 1
    np.testing.assert_array_equal(first.regions[0].mask(SIZE), dogs)
    np.testing.assert_array_equal(first.regions[1].mask(SIZE), cats)
    assert second.labels == (1,) and not second.regions


def test_what_is_skipped_is_one_line_each(tmp_path):
    text = "path,label\na.png,zebra\nx/b.png,dog\nx/b.png,zebra\nc.png,dog\n"
    data = opened(tmp_path, text)
    assert data.names == ("x/b.png",) and data[0].labels == (0,)
    assert data.warnings == (
        "classes that the artifact does not have, skipped: 1 of 2: 'zebra'",
        "1 of 3 images show no class of the artifact: skipped",
        f"1 of 2 images that {tmp_path / 'list.csv'} lists are not there: c.png",
    )


def test_a_limit_is_spread_over_the_file(tmp_path):
    names = [f"{number}.png" for number in range(6)]
    data = opened(tmp_path, "path,label\n" + "".join(f"{name},dog\n" for name in names), names, limit=3)
    assert data.names == ("0.png", "2.png", "4.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the first line of .*list.csv must be path,label or path,label,x0,y0,x1,y1, got nothing$"),
        ("a.png,dog\n", r"the first line of .*list.csv must be path,label or path,label,x0,y0,x1,y1, got a.png,dog$"),
        ("path,label\n", r"has no class|lists no images"),
        ("path,label\na.png\n", r"^line 2 of .*list.csv must have 2 columns"),
        ("path,label\n\na.png,\n", r"^line 3 of .*list.csv must have 2 columns"),
        ("path,label,x0,y0,x1,y1\na.png,dog,1,2,3\n", r"^line 2 of .*list.csv must have 6 columns"),
        (
            "path,label,x0,y0,x1,y1\na.png,dog,1,2,3,\n",
            r"^line 2 of .*list.csv has no box: .*, got \['1', '2', '3', ''\]$",
        ),
        ("path,label,x0,y0,x1,y1\na.png,dog,5,2,3,4\n", r"^line 2 of .*list.csv has no box: x0 < x1 and y0 < y1"),
        ("path,label,x0,y0,x1,y1\na.png,dog,nan,2,3,4\n", r"^line 2 of .*list.csv has no box"),
        ("path,label,x0,y0,x1,y1\na.png,dog,0,2,inf,4\n", r"^line 2 of .*list.csv has no box"),
        (
            "path,label\nc.png,dog\n",
            r"^none of the 1 images that .*list.csv lists is there; the first, c.png, is",
        ),
        ("path,label\n" + 300 * "c" + ".png,dog\n", r"^none of the 1 images"),
        ("path,label\na.png,zebra\n", r"no label 'zebra'.*; its classes are 'dog', 'cat, house cat'$"),
        ('path,label\n"a.png,dog\n', r"list.csv is no CSV file: "),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(OnnxplainError, match=message) as raised:
        opened(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_a_folder_with_a_list(tmp_path):
    opened(tmp_path, "path,label\na.png,dog\n")
    (tmp_path / "list.csv").rename(tmp_path / "annotations.csv")
    assert open_data(str(tmp_path), LABELS).names == ("a.png",)
    write_coco(tmp_path / "annotations.json")
    with pytest.raises(OnnxplainError, match=r"has annotations.csv and annotations.json; give the one to use itself$"):
        open_data(str(tmp_path), LABELS)


def test_what_is_no_data(tmp_path):
    write_image(tmp_path / "a.png")
    for text in ("Demo", str(tmp_path / "nowhere"), str(tmp_path / "a.png")):
        with pytest.raises(
            OnnxplainError, match=r"is no data to evaluate on; give a folder .* of the kind .csv or .json, or demo$"
        ):
            open_data(text, LABELS)
    with pytest.raises(OnnxplainError, match=r"^there is no file .*nowhere.csv$"):
        open_data(str(tmp_path / "nowhere.csv"), LABELS)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OnnxplainError, match=r"^there are no folders in"):
        open_data(str(tmp_path / "folder.csv"), LABELS)
