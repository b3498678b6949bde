"""The true classes of pictures, by the names of their folders."""

import time
from pathlib import Path

import pytest

from onnxplain.commands.gallery.true_classes import true_classes

LABELS = ["tabby, tabby cat", "tiger cat", "crane, crane bird", "crane, crane machine", "Crème brûlée", "猫", "7"]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("tabby, tabby cat", 0),
        ("Tabby Cat", 0),
        ("tabby", 0),
        ("tiger-cat", 1),
        ("tiger_cat", 1),
        ("crane-bird", 2),
        ("crane", None),  # two classes
        ("creme-brulee", 4),
        ("猫", 5),
        ("3", 3),
        ("7", 6),  # a label before an index
        ("8", None),
        ("-1", None),
        ("cats", None),
        ("...", None),
        ("n01440764", None),
    ],
)
def test_a_folder_named_like_a_class(folder, expected):
    image = Path("photos", folder, "a.png")
    assert true_classes({image: Path(folder)}, LABELS) == ({} if expected is None else {image: expected})
    assert true_classes({image: Path()}, LABELS) == ({} if expected is None else {image: expected})


@pytest.mark.parametrize(
    ("image", "place", "expected"),
    [
        ("photos/tabby/2/a.png", "tabby/2", 0),  # the outermost
        ("photos/day/tabby/a.png", "day/tabby", 0),
        ("tabby/day/a.png", "day", 0),  # the folder that was given
        ("tabby/photos/a.png", ".", None),  # above it
        ("tabby/photos/day/a.png", "day", None),
    ],
)
def test_which_folder_counts(image, place, expected):
    found = true_classes({Path(image): Path(place)}, LABELS)
    assert found == ({} if expected is None else {Path(image): expected})


def test_relative_names_and_links(tmp_path, monkeypatch):
    (tmp_path / "tiger cat" / "in").mkdir(parents=True)
    (tmp_path / "blob").touch()
    (tmp_path / "tiger cat" / "a.png").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path / "tiger cat" / "in")
    assert true_classes({Path("../a.png"): Path()}, LABELS) == {Path("../a.png"): 1}
    monkeypatch.chdir("..")
    assert true_classes({Path("a.png"): Path()}, LABELS) == {Path("a.png"): 1}


def test_wordnet_ids():
    labels = ["tench, Tinca tinca", *(f"other {index}" for index in range(998)), "toilet tissue"]
    images = {Path(f"val/{name}/a.png"): Path(name) for name in ("n01440764", "n15075141", "n00000000")}
    assert sorted(true_classes(images, labels).values()) == [0, 999]


def test_thousands_of_folders_that_are_no_classes_take_no_time():
    """Looking for a name among all labels proposes others, and takes 13 ms."""
    labels = [f"some label {index}, another name {index}" for index in range(1000)]
    images = {Path(f"{number}.frames/a.png"): Path(f"{number}.frames") for number in range(5000)}
    started = time.perf_counter()
    assert true_classes(images, labels) == {}
    assert time.perf_counter() - started < 5
