"""The tables of an evaluation in the terminal."""

import io
import re

from onnxplain.commands.display import PlainConsole
from onnxplain.commands.evaluation_tables import evaluation_tables, not_measured
from onnxplain.evaluation import METRICS
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


def test_a_narrow_table_does_not_make_the_note_narrow():
    shown = _show(realistic(images=5, methods=("rollout",)), {"mass": ROWS["mass"]}, width=100)
    note = shown[shown.index("±: half") :].splitlines()
    assert len(note) < 8 and max(map(len, note)) > 80


def test_a_subset_without_images_is_a_title_alone():
    images = [{"measured": [(0, "a", "score", (1.0,))], "right": False}]
    shown = _show(results_of(images), {"score": row("score", "higher")})
    assert shown.count("method ") == 1 and "rightly classified images (0)\n±" in shown


def test_metrics_without_values_are_told_with_the_reason():
    found = summarize(results_of([{"measured": [(0, "a", "saco", (1.0,))]}]), METRICS, 50)
    asked = ("saco", "mass", "rank", "completeness", "random_logit")
    assert list(not_measured(found, asked, METRICS)) == [
        "not measured: mass, rank (no image has a mask or box of its class)",
        "not measured: completeness (for attnlrp, cp_lrp, integrated_gradients alone)",
        "not measured: random_logit (no map of these methods depends on the class)",
    ]
