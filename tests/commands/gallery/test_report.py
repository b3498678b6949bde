"""`explain --report`: the numbers, the page's own data, rightness, hostile names, and when nothing is written."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands.gallery import gallery
from onnxplain.commands.printable import printable
from onnxplain.runtime import Explainer, load_image
from onnxplain.runtime.figures.figure import resized
from tests.helpers.command_line import assert_mistake, contents, random_image, read_pixels, run
from tests.helpers.tiny_artifact import LABELS, build

pytestmark = pytest.mark.usefixtures("folder")

METHODS = ("legrad", "relevance_rollout", "rollout")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "<!-- <script>",
    "\x1b[31mred\u202egnorw",
    "${1} $title &amp; `x`",
    "]]>\u2028=1+1",
]


def _rows(report="report"):
    with Path(report, "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _page(report="report"):
    return Path(report, "index.html").read_text(encoding="utf-8")


class _Elements(HTMLParser):
    """The elements of a page: (name, attributes, the text that follows)."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append([tag, dict(attributes), ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data


def _data(report="report"):
    (text,) = [text for _, attributes, text in _Elements(_page(report)).found if attributes.get("id") == "data"]
    return json.loads(text)


def _report(artifact, *arguments, report="report"):
    done = run("explain", artifact, *arguments, "--report", report)
    assert done.exit_code == 0, done.output
    return done


def _files(place):
    return {path.relative_to(place): path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}


def test_the_numbers_are_those_of_the_explanations(artifact):
    random_image(7, 700, 1500).save("pictures/large.png")
    options = [part for name in METHODS for part in ("--method", name)]
    done = _report(artifact, "pictures", "--target", -1, "--target", "tiger cat", *options, "--discard-ratio", 0.25)
    assert "wrote report/index.html" in done.stdout and "wrote report/results.csv" in done.stdout
    explainer, rows = Explainer(artifact), iter(_rows())
    names = [f"pictures/{name}" for name in ("a.png", "b.webp", "c.JPG", "large.png")]
    for name in names:
        methods = {"legrad": {}, "relevance_rollout": {}, "rollout": {"discard_ratio": 0.25}}
        found = explainer.explain_all(name, [-1, "tiger cat"], methods=methods)
        for method, items in found.items():
            for item in {item.target: item for item in items}.values():
                row, peak = next(rows), item.peak()
                assert row["image"] == name and row["method"] == method
                assert json.loads(row["parameters"]) == item.parameters
                assert (int(row["target"]), row["label"]) == (item.target, item.label)
                index, label, share = item.predictions[0]
                assert (int(row["predicted"]), row["predicted_label"]) == (index, label)
                numbers = [float(row[name]) for name in ("score", "probability", "predicted_probability")]
                assert numbers == pytest.approx([item.score, item.probability, share], rel=1e-6)  # in another batch
                assert (row["y"], row["x"]) == (("", "") if peak is None else tuple(map(str, peak)))
                assert row["true"] == row["true_label"] == row["right"] == ""
                _check_images(row, item)
    assert next(rows, None) is None
    assert {path.parts[0] for path in _files("report")} == {
        "index.html", "results.csv", "maps", "thumbnails", "images"
    }  # fmt: skip


def _check_images(row, item):
    """The files show the picture, and this map over it."""
    size = item.image.size
    for kind, longest in (("thumbnail", 256), ("map", 1024), ("image_file", 1024)):
        with Image.open(Path("report", row[kind])) as image:
            assert image.format == "JPEG" and max(image.size) <= longest
            assert kind == "thumbnail" or max(image.size) == min(max(384, *size), 1024)
            expected = item.image if kind == "image_file" else item.overlay()
            shown = np.asarray(image.convert("RGB").resize((60, 60)), float)
            wanted = np.asarray(expected.resize((60, 60)), float)
            assert np.abs(shown - wanted).mean() < 6, (row[kind], np.abs(shown - wanted).mean())
            if kind != "image_file":  # the picture alone would not pass for it
                assert np.abs(np.asarray(item.image.resize((60, 60)), float) - wanted).mean() > 12


@pytest.mark.parametrize("scale", ["each", "shared"])
def test_maps_are_drawn_as_the_options_say(artifact, scale):
    looks = ["--colormap", "viridis", "--opacity", 1, "--scale", scale, "--layout", "map", "--no-figures"]
    _report(artifact, "cat.png", "--target", 0, "--target", 4, "--method", "legrad", *looks)
    assert not Path("explanations").exists()
    items = Explainer(artifact).explain("cat.png", [0, 4], "legrad")
    first, second = (read_pixels(Path("report", row["map"])).astype(float) for row in _rows())
    alone = [np.asarray(resized(item, (384, 256)).overlay("viridis", 1.0), float) for item in items]
    assert np.abs(second - alone[1]).mean() < 4  # of the greater values, which the shared scale spans
    assert (np.abs(first - alone[0]).mean() < 4) == (scale == "each")


def test_the_page_holds_the_same_numbers(artifact):
    _report(artifact, "pictures", "--target", 1, "--target", 4, "--method", "legrad", "--method", "rollout")
    data, rows = _data(), _rows()
    assert data["methods"] == ["legrad", "rollout"] and len(data["images"]) == 3 and len(data["maps"]) == len(rows)
    for (picture, place, method, target, score, probability, x, y), row in zip(data["maps"], rows, strict=True):
        name, true, predictions = data["images"][picture]
        assert (name, true, data["methods"][method], str(target)) == (row["image"], None, row["method"], row["target"])
        assert [score, probability] == pytest.approx([float(row["score"]), float(row["probability"])], rel=1e-5)
        assert [x, y] == [int(row[axis]) if row[axis] else None for axis in "xy"]
        assert predictions[0] == pytest.approx([int(row["predicted"]), float(row["predicted_probability"])], rel=1e-5)
        assert len(predictions) == 5 and data["labels"][str(target)] == row["label"]
        assert row["map"] == f"maps/{picture + 1:06}-{place + 1}.jpg"


def test_rightness_by_folders(artifact):
    places = {"Dog": 4, "tiger-cat": 1, "whooping crane": 3, "0": 0, "crane": None, "other": None}
    for seed, place in enumerate(places):
        Path("photos", place, "deeper").mkdir(parents=True)
        random_image(seed).save(Path("photos", place, "deeper", "a.png"))
    _report(artifact, "photos", "--recursive", "--method", "rollout")
    explainer, seen = Explainer(artifact), {}
    for row in _rows():
        place = Path(row["image"]).parts[1]
        expected, predicted = places[place], explainer.explain(row["image"], method="rollout").predictions[0][0]
        right = "" if expected is None else str(predicted == expected).lower()
        label = "" if expected is None else LABELS[expected]
        assert (row["true"], row["true_label"], row["right"]) == (
            "" if expected is None else str(expected),
            label,
            right,
        )
        seen[place] = expected
    assert seen == places
    assert "6 images, explained by tiny.onnx; 4 in folders with names of classes" in _page()
    assert [true for _, true, _ in _data()["images"]] == [places[place] for place in sorted(places)]


def test_hostile_labels_and_names_stay_text(tmp_path):
    artifact = build(tmp_path / "x.onnx", labels=HOSTILE, model="<script>m()</script>$style")
    name = "<img src=x onerror=alert(1)>\udcff.png"
    shutil.copy("cat.png", os.fsencode(name))
    shutil.copy("cat.png", "b.png")
    _report(
        artifact, name, "b.png", *(part for index in range(6) for part in ("--target", index)), "--method", "legrad"
    )
    elements = _Elements(_page()).found
    assert [attributes for tag, attributes, _ in elements if tag == "script"] == [
        {"type": "application/json", "id": "data"}, {}
    ]  # fmt: skip
    assert [attributes for tag, attributes, _ in elements if tag == "img"] == [{"id": "image"}, {"id": "map"}]
    assert not [key for _, attributes, _ in elements for key in attributes if key.startswith("on") or key == "style"]
    data = _data()
    assert [data["labels"][str(index)] for index in range(6)] == [printable(label) for label in HOSTILE]
    assert data["images"][0][0] == "<img src=x onerror=alert(1)>\\udcff.png"
    (heading,) = [text for tag, _, text in elements if tag == "h1"]
    assert heading.strip() == "Where <script>m()</script>$style looks"
    assert [row["label"] for row in _rows()] == HOSTILE * 2


def test_the_policy_allows_the_page_s_own_style_and_script_and_images_beside_it(artifact):
    _report(artifact, "cat.png")
    page = _page()
    policy = re.search(r'Policy" content="([^"]*)"', page)[1]
    allowed = {name: values for name, *values in map(str.split, policy.split(";"))}
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed.pop(kind) == [f"'sha256-{digest}'"]
    assert allowed.pop("img-src") == ["'self'", "file:"]
    assert set(allowed) == {"default-src", "base-uri", "form-action"}
    assert all(values == ["'none'"] for values in allowed.values())
    assert not re.search(r"https?:|@import|\bfetch\(|url\(", page)


def test_bad_images_are_listed_and_the_others_shown(artifact):
    random_image(0, 300, 300).save("large.png")
    given = ["cat.png", "cut.png", "large.png", "text.png", "pictures"]
    done = run("explain", artifact, *given, "--report", "report", "--max-pixels", 80000)
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 3 and "--max-pixels" in done.stderr
    assert [row["image"] for row in _rows()] == ["cat.png", "pictures/a.png", "pictures/b.webp", "pictures/c.JPG"]
    lines = [text.strip() for tag, _, text in _Elements(_page()).found if tag == "li"]
    assert [f"error: {line}" for line in lines] == done.stderr.splitlines()
    assert "3 errors" in _page()


def test_without_any_image_there_is_no_report(artifact):
    _report(artifact, "cat.png")
    before = _files("report")
    for report in ("new", "report"):
        assert run("explain", artifact, "cut.png", "zero.png", "--report", report, "--force").exit_code == 2
    assert not Path("new").exists() and _files("report") == before


@pytest.mark.parametrize("output", ["report", "report/maps"])
def test_a_report_does_not_replace_what_the_same_call_writes(artifact, output):
    """Its folder becomes the report at the end, with all that is in it."""
    given = ("explain", artifact, "cat.png", "--report", "report", "--output", output)
    for extra in ((), ("--no-figures", "--save", "npz")):
        assert_mistake(
            f"--report report replaces all that is in that folder, and --output {output} is in it", *given, *extra
        )
    assert not Path("report").exists()
    assert run(*given, "--no-figures").exit_code == 0
    assert run("explain", artifact, "cat.png", "--report", "out/report", "--output", "out").exit_code == 0


def test_a_report_is_replaced_if_forced_and_nothing_else(artifact):
    _report(artifact, "pictures", report="empty")
    assert_mistake("empty exists; give --force to replace it", "explain", artifact, "cat.png", "--report", "empty")
    Path("empty/old.txt").touch()
    assert run("explain", artifact, "cat.png", "--report", "empty", "--force").exit_code == 0
    assert len(_rows("empty")) == 1 and len(_files("empty")) == 5
    Path("pictures/index.html").write_text("<h1>mine</h1>")
    for place, force in (("pictures", []), ("pictures", ["--force"])):
        message = f"{place} holds other files than a report"
        assert_mistake(message, "explain", artifact, "cat.png", "--report", place, *force)
    assert_mistake("cat.png is a file", "explain", artifact, "cat.png", "--report", "cat.png")
    assert_mistake("--force replaces a report; name it", "explain", artifact, "cat.png", "--force")


@pytest.mark.parametrize("function", ["write_table", "write_page", "put_in_place"])
def test_a_report_that_cannot_be_finished_leaves_the_old_one(artifact, monkeypatch, function):
    _report(artifact, "cat.png")
    before = _files("report")

    def full(*arguments):
        raise OSError(28, "No space left on device", ".onnxplain-12345678/new/x")

    monkeypatch.setattr(gallery, function, full)
    done = run("explain", artifact, "pictures", "--report", "report", "--force")
    assert done.exit_code == 2 and done.stderr == "error: cannot write report: No space left on device\n"
    assert "explained 3 of 3 images" in done.stdout
    assert _files("report") == before and not list(Path().glob(".onnxplain-*"))


def test_what_is_interrupted_leaves_nothing(artifact, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxplain.commands.display.show", interrupted)
    before = set(contents())
    assert run("explain", artifact, "pictures", "--report", "report").exit_code != 0
    assert not Path("report").exists() and not list(Path().glob(".onnxplain-*"))
    assert {path.parts[0] for path in set(contents()) - before} <= {"explanations"}


def test_an_image_whose_files_cannot_be_written_is_an_error_of_its_own(artifact, monkeypatch):
    add = gallery.Gallery._add

    def fails_once(self, image, items):
        if image.name == "b.webp":
            raise OSError(28, "No space left on device", ".onnxplain-12345678/new/x")
        return add(self, image, items)

    monkeypatch.setattr(gallery.Gallery, "_add", fails_once)
    done = run("explain", artifact, "pictures", "--report", "report")
    assert done.exit_code == 2
    assert done.stderr == "error: pictures/b.webp: cannot write report: No space left on device\n"
    assert [row["image"] for row in _rows()] == ["pictures/a.png", "pictures/c.JPG"]


def test_the_same_images_give_the_same_bytes(artifact):
    for report in ("one", "two"):
        _report(artifact, "pictures", report=report)
    assert _files("one") == _files("two")


def test_the_images_of_a_report_are_not_explained(artifact):
    _report(artifact, "pictures", report="pictures/report")
    done = run("explain", artifact, "pictures", "--recursive", "--output", "out")
    assert done.exit_code == 0 and "9 images that onnxplain made were skipped" in done.stdout
    assert "explained 3 of 3 images" in done.stdout


def test_sheets_and_images_of_any_shape(artifact):
    Path("shapes").mkdir()
    for size in ((1, 1), (1, 400), (900, 2)):
        random_image(0, *size).save(f"shapes/{size[0]}x{size[1]}.png")
    _report(artifact, "shapes", "--method", "legrad", "--method", "rollout", "--sheet")
    assert len(_rows()) == 6
    for path in Path("report").rglob("*.jpg"):
        load_image(path)
