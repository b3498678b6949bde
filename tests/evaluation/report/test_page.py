"""The report's page: it loads nothing, shows what it is given as text, and is well-formed."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.report.page import page
from onnxplain.evaluation.report.plots import plots
from onnxplain.evaluation.statistics import summarize
from tests.helpers.evaluations import ROWS, only, realistic, results_of, row

HOSTILE = "<script>alert(1)</script>\"'&.png"
LOADING = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
VOID = {"meta", "img", "input", "wbr", "br"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *item) for item in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *item) for item in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def _read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def _sheet(name):
    return Image.new("RGB", (2000, 400), "white")


def _page(results, rows=ROWS, sheet=None):
    found = summarize(results, rows, 50)
    return page(results, rows, found, plots(found, rows, results.costs), sheet)


def _results():
    results = realistic(images=8, methods=("rollout", "legrad", "gradcam"))
    return only(results, "perturbation_positive", "mass", "sparseness")


@pytest.fixture(scope="module")
def text():
    return _page(_results(), sheet=_sheet)


def test_it_loads_nothing(text):
    reader = _read(text)
    addresses = [value for _, name, value in reader.attributes if name in LOADING]
    addresses += re.findall(r"url\(([^)]*)\)", text)
    assert {address.partition(":")[0] if ":" in address else address[0] for address in addresses} == {"data", "#"}
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(reader.tags)
    assert "@import" not in text and "http:" not in text.replace("http://www.w3.org/", "") and "https:" not in text


def test_its_policy_allows_its_own_style_and_script_alone(text):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    for tag in ("style", "script"):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(parts[0].encode()).digest()).decode()
        assert len(parts) == 1 and f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    reader = _read(text)
    assert not [item for item in reader.attributes if item[1] == "style" or item[1].startswith("on")]


def test_what_it_says(text):
    said = " ".join("".join(_read(text).text).split())
    for part in (
        "Which map to believe: demo", "3 methods on 8 images", "9f2c9f2c", "onnxruntime 1.24.1",
        "rollout (start_layer=1)", "rightly classified", "intervals are too narrow",
        "scenes/0200.png cannot be read", "20.0 s of computing",
    ):  # fmt: skip
        assert part in said


def test_each_subset_has_a_table_with_all_rows(text):
    tables = re.findall(r'<div class="scroll" data-subset="(\w+)"><table class="scores">(.*?)</table>', text, re.DOTALL)
    assert [subset for subset, _ in tables] == ["all", "right"]
    for _, table in tables:
        rows = re.findall(r'<th scope="row" data-value="([^"]+)"', table)
        assert rows == [
            "rollout", "legrad", "gradcam", "random", "constant", "gaussian", "other_class:legrad",
            "other_class:gradcam",
        ]  # fmt: skip
        assert table.count("<td") == len(rows) * (1 + 3)


def test_the_images_on_which_methods_agree_most_and_least(text):
    results = _results()
    order = [image.name for image in sorted(results.images, key=lambda image: -image.agreement)]
    shown = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="(\S+) and the heatmaps of 3 methods">', text)
    assert [name for _, name in shown] == [*order[:3], *order[:-4:-1]]
    assert Image.open(io.BytesIO(base64.b64decode(shown[0][0]))).size == (1800, 360)


def test_few_images_are_not_shown_twice():
    rows = {"score": row("score", "higher")}
    images = [{"measured": [(0, "a", "score", (1.0,))], "agreement": value} for value in (0.1, 0.9, None)]
    shown = re.findall(r"<figcaption>(\S+): correlation", _page(results_of(images), rows))
    assert shown == ["1.png", "0.png"]
    assert "agree" not in _page(results_of(images[2:]), rows)


def test_names_from_data_are_text():
    rows = {"score": replace(row("score", "higher", HOSTILE), reference=HOSTILE)}
    images = [
        {"name": HOSTILE, "measured": [(0, "a", "score", (value,))], "agreement": value, "predicted": 0}
        for value in (0.1, 0.9)
    ]
    run = {name: HOSTILE for name in ("model", "digest", "data", "target", "seed", HOSTILE)}
    run |= {"seed": 3, "labels": [HOSTILE], "methods": {"a": {HOSTILE: HOSTILE}}, "versions": {HOSTILE: HOSTILE}}
    results = results_of(images, run={**run, "baselines": {"score": HOSTILE}}, errors={HOSTILE: HOSTILE, "\udcff": "x"})
    text = _page(results, rows, _sheet)
    reader = _read(text)
    assert reader.tags.count("script") == 1 and "alert(1)</script>" not in text
    assert "".join(reader.text).count("alert(1)") >= 12 and "\\udcff" in text
    assert ("img", "alt", f"{HOSTILE} and the heatmaps of 1 methods") in reader.attributes
    text.encode("utf-8")


def test_an_image_that_is_gone_has_no_sheet():
    def gone(name):
        raise OnnxplainError(f"there is no image {name} <any more>")

    images = [{"measured": [(0, "a", "score", (1.0,))], "agreement": 0.5}]
    text = _page(results_of(images), {"score": row("score", "higher")}, gone)
    assert "<img" not in text and "there is no image 0.png &lt;any more&gt;" in text


def test_nothing_measured_and_all_failed():
    text = _page(results_of([], errors={"a.png": "is damaged"}), {})
    assert "is damaged" in text and "0 methods on 0 images" in text
    _read(text)
