"""The tables of an evaluation in the terminal."""

import io
import re

from onnxplain.commands.display import PlainConsole
from onnxplain.commands.evaluation_tables import evaluation_tables
from onnxplain.evaluation.statistics import summarize
from tests.helpers.evaluations import ROWS, realistic, results_of, row


def _show(results, rows, width=1000):
    console = PlainConsole(width=width, file=io.StringIO())
    for table in evaluation_tables(summarize(results, rows, 200), rows, results.costs, width):
        console.print(table)
    return console.file.getvalue()


def test_methods_above_yardsticks_for_each_subset():
    shown = _show(realistic(images=9, methods=("rollout", "legrad")), ROWS)
    assert re.findall(r"^(.*?) \(\d+\)", shown, re.MULTILINE) == ["all images", "rightly classified images"]
    names = re.findall(r"^(rollout|legrad|random|constant|gaussian|other_class, mean)\s", shown, re.MULTILINE)
    assert names == ["rollout", "legrad", "random", "constant", "gaussian", "other_class, mean"] * 2
    heads = re.search(r"^method.*$", shown, re.MULTILINE)[0].split("  ")
    assert "mass ↑" in [head.strip() for head in heads] and "sparseness" in [head.strip() for head in heads]


def test_values_halves_of_intervals_and_marks():
    values = {"good": 0.9, "random": 0.1, "gaussian": 0.5, "bad": 0.1, "other_class:bad": 0.2}
    images = [
        {"measured": [(0, name, "score", (value + shift,)) for name, value in values.items()]}
        for shift in (0, 0.02) * 8
    ]
    shown = _show(results_of(images), {"score": row("score", "higher")})
    table, note = shown.split("±: ")
    lines = {line.split()[0]: " ".join(line.split()) for line in table.splitlines() if line.strip()}
    assert re.fullmatch(r"good 1\.0 0\.9100 ±0\.00\d\d\*", lines["good"])
    assert re.fullmatch(r"bad 1\.0 0\.1100 ±0\.00\d\d ≈r !go", lines["bad"])
    assert re.fullmatch(r"random 0\.1100 ±0\.00\d\d", lines["random"])
    assert lines["other_class,"] == "other_class, mean 0.2100"
    assert "cannot be told from" in note


def test_metrics_that_do_not_fit_beside_each_other_are_in_further_tables():
    shown = _show(realistic(images=5, methods=("rollout", "legrad")), ROWS, width=100)
    assert max(map(len, shown.splitlines())) <= 100 and shown.count("all images") > 1
    assert all(len(re.findall(rf"\b{name}\b", shown)) == 2 for name in ROWS)


def test_what_has_no_value_and_one_image():
    rows = {"score": row("score", "higher"), "other": row("other", "lower")}
    shown = _show(results_of([{"measured": [(0, "a", "score", (1.0,)), (0, "b", "other", (2.0,))]}]), rows)
    assert "±" not in shown.partition("±:")[0] and "–" in shown
    assert _show(results_of([]), rows) == ""
