"""The CSV files: their columns, and every number that was measured or told."""

import csv

import pytest

from onnxplain.evaluation.report.csv_files import write_comparisons, write_results, write_scores
from onnxplain.evaluation.statistics import summarize
from tests.helpers.evaluations import LABELS, ROWS, realistic, results_of, row


def _read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_for_each_image_target_method_and_metric(tmp_path):
    results = realistic(images=3, methods=("rollout", "legrad"))
    write_results(tmp_path / "results.csv", results, ROWS)
    head = (tmp_path / "results.csv").read_bytes().split(b"\n")[0]
    assert head == b"image,target,method,metric,value,label,right,predicted"
    rows = _read(tmp_path / "results.csv")
    assert len(rows) == sum(len(image.measured) for image in results.images)
    first, item = rows[0], results.images[0].measured[0]
    assert float(first["value"]) == ROWS[item.metric].value(item.parts)
    assert (first["image"], first["target"], first["method"]) == ("scenes/0000.png", str(item.target), item.method)
    assert first["label"] == LABELS[item.target] and first["right"] in ("true", "false")


def test_names_that_are_no_plain_text_come_back_as_they_were(tmp_path):
    name = 'a,"b"\nc <script>.png'
    images = [
        {"name": name, "right": None, "measured": [(0, "a", "score", (0.5,))]},
        {"name": "half \udcff.png", "measured": [(0, "a", "score", (0.5,))]},
    ]
    write_results(tmp_path / "results.csv", results_of(images), {"score": row("score", "higher")})
    rows = _read(tmp_path / "results.csv")
    assert [item["image"] for item in rows] == [name, "half \\udcff.png"] and rows[0]["right"] == ""


def test_statistics_with_what_cannot_be_told(tmp_path):
    results = realistic(images=10, methods=("rollout", "legrad"))
    found = summarize(results, ROWS)
    write_scores(tmp_path / "table.csv", found, ROWS, results.costs)
    write_comparisons(tmp_path / "comparisons.csv", found)
    rows, pairs = _read(tmp_path / "table.csv"), _read(tmp_path / "comparisons.csv")
    assert (len(rows), len(pairs)) == (len(found.scores), len(found.comparisons))
    for item in rows:
        score = found.scores[item["subset"], item["metric"], item["method"]]
        assert float(item["value"]) == score.value and float(item["low"]) == score.low
        verdicts = found.verdicts(item["subset"], item["metric"], item["method"])
        for column, verdict in (("cannot_be_told_from", "cannot be told"), ("worse_than", "worse")):
            told = [name.rstrip(":") for name, given in verdicts.items() if given == verdict]
            assert item[column].split() == told
    assert {item["cost"] for item in rows if item["method"] == "legrad"} == {"2.6"}
    assert {item["cost"] for item in rows if item["method"] == "random"} == {""}
    pair = next(item for item in pairs if item["other"] == "random")
    key = (pair["subset"], pair["metric"], pair["method"], "random")
    assert float(pair["difference"]) == pytest.approx(found.comparisons[key].difference)
