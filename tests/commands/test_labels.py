"""`--labels` as lines and as the kinds of JSON that training scripts write; gaps and doubles are refused."""

import json
from pathlib import Path

import pytest

from onnxplain.runtime import Explainer
from tests.helpers.command_line import assert_mistake, run
from tests.helpers.tiny_artifact import LABELS, build

pytestmark = pytest.mark.usefixtures("folder")

NAMES = ["zero", "one, uno", "two", *(f"n{index}" for index in range(3, 12))]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(NAMES),
        json.dumps(NAMES),
        json.dumps({str(index): name for index, name in reversed(list(enumerate(NAMES)))}, indent=2),
        json.dumps({name: index for index, name in reversed(list(enumerate(NAMES)))}),
        "\ufeff" + json.dumps(dict(enumerate(NAMES))),
    ],
)
def test_labels(exporter, text):
    Path("labels").write_text(text, encoding="utf-8")
    assert run("export", "--model", "vit", "--labels", "labels").exit_code == 0
    assert exporter.calls[0] == ("vit", None, False, None, None, NAMES, None, None)


def test_two_classes_of_one_name_and_names_that_are_numbers(exporter):
    for text, expected in (('{"0": "crane", "1": "crane"}', ["crane", "crane"]), ('{"7": 1, "0": 0}', ["0", "7"])):
        Path("labels.json").write_text(text)
        assert run("export", "--model", "vit", "--labels", "labels.json", "--force").exit_code == 0
        assert exporter.calls[-2][5] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": "a", "2": "c"}', "go up to the class index 2 and have none for 1"),
        ('{"1": "a", "2": "b"}', "go up to the class index 2 and have none for 0"),
        ('{"a": 0, "b": 2}', "have none for 1"),
        ('{"0": "a", "0": "b"}', "have the class index 0 twice"),
        ('{"0": "a", "00": "b"}', "have the class index 0 twice"),
        ('{"a": 0, "b": 0}', "have the class index 0 twice"),
        ('{"a": 0, "b": -1}', "must have class indices, got -1"),
        ('{"cat": "dog"}', "must have class indices, got 'cat'"),
        ('{"0": "a", "1": ["b"]}', "must be text, none of them empty"),
        ('{"0": "a", "1": ""}', "must be text, none of them empty"),
        ('{"0": true}', "must be text, none of them empty"),
        ("{}", "must be text, none of them empty"),
        ('[{"0": "a"}]', "must be text, none of them empty"),
        ('{"0": "a"', "cannot read labels from labels.json: Expecting"),
        ('{"%s": "a"}' % ("9" * 5000), "must have class indices, got '999"),
        ('{"a": %s}' % ("9" * 5000), "cannot read labels from labels.json"),
    ],
)
def test_labels_that_are_none(exporter, text, message):
    Path("labels.json").write_text(text)
    assert_mistake(message, "export", "--model", "vit", "--labels", "labels.json")
    assert exporter.calls == []


def test_the_default_is_a_rank_even_if_a_label_looks_like_it(tmp_path):
    """With a target given, a label comes before a number of the same spelling."""
    labels = [*(f"n{index}" for index in range(len(LABELS) - 2)), "-1", "2"]
    other, minus_one = build(tmp_path / "other.onnx", labels=labels), len(LABELS) - 2
    first = Explainer(other).explain("cat.png").target
    assert first < minus_one and f"(class {first})" in run("explain", other, "cat.png").stdout
    assert f"-1 (class {minus_one})" in run("explain", other, "cat.png", "--target=-1").stdout
    assert f"2 (class {minus_one + 1})" in run("explain", other, "cat.png", "--target", "2").stdout


def test_labels_are_the_same_in_every_form_of_unicode(tmp_path):
    """Folders made on a Mac have decomposed names."""
    other = build(tmp_path / "other.onnx", labels=["caf\u00e9", *LABELS[1:]])
    assert "(class 0)" in run("explain", other, "cat.png", "--target", "cafe\u0301").stdout
