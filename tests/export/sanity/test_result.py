"""Intervals and verdicts, of values made by hand."""

import csv
import re

import numpy as np
import pytest

from onnxplain.export import SanityResult, write_sanity
from onnxplain.export.sanity.result import JUDGED, METRICS, SHIFTED, interval

RNG = np.random.default_rng(0)
STEPS = ("head", "blocks.0", "embedding")
RUN = {"model": "made", "draws": 4}


def _result(levels, noise=0.02):
    """By method the similarity when all weights are random, by both metrics of the verdict or by each."""
    values = {}
    for method, level in levels.items():
        for metric in METRICS:
            wanted = level.get(metric, 0) if isinstance(level, dict) else level
            values[method, metric] = RNG.normal(wanted, noise, (4, 3, 9))
            values[method, metric][:, :2] = 1
        for metric in JUDGED:
            values[SHIFTED + method, metric] = RNG.normal(0, noise, (4, 3, 9))
    return SanityResult(RUN, STEPS, tuple("abcdefghi"), (1,) * 9, values, {})


def test_the_interval_of_one_draw_is_the_bootstrap_over_images():
    values = RNG.normal(size=(1, 200))
    mean, low, high = interval(values)
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.1)


def test_the_interval_knows_of_both_draws_and_images():
    draws, images = RNG.normal(size=(30, 1)), RNG.normal(size=(1, 40))
    _, low, high = interval(draws + images)
    assert high - low == pytest.approx(2 * 1.96 * (draws.var() / 30 + images.var() / 40) ** 0.5, rel=0.1)
    assert interval(draws + images) == interval(draws + images)


def test_what_is_missing_is_left_out():
    values = np.array([[1.0, np.nan, 2.0], [np.nan, np.nan, np.nan]])
    mean, low, high = interval(values)
    assert mean == 1.5 and low == 1 and high == 2
    assert np.isnan(interval(values[1:])).all()


def test_verdicts():
    result = _result(
        {
            "lost": 0,
            "opposite": -0.5,
            "kept": 0.9,
            "ranks_kept": {"spearman_absolute": 0.4},
            "structure_kept": {"ssim": 0.4},
            "at_the_limit": 0.1,
        }
    )
    assert {name: result.verdict(name) for name in result.methods} == {
        "lost": "yes",
        "opposite": "yes",
        "kept": "no",
        "ranks_kept": "no",
        "structure_kept": "no",
        "at_the_limit": "cannot be told",
    }
    assert result.summary("kept", "ssim", 0).mean == 1
    # sparse maps have much in common wherever their values are: the yardstick has it as well
    sparse = _result({"sparse": {"ssim": 0.6}})
    values = {**sparse.values, (SHIFTED + "sparse", "ssim"): sparse.values["sparse", "ssim"] - 0.01}
    assert SanityResult(RUN, STEPS, sparse.images, sparse.targets, values, {}).verdict("sparse") == "yes"


def test_methods_without_finite_maps_cannot_be_told():
    result = _result({"one": 0, "two": 0})
    for metric in METRICS:
        result.values["two", metric][:, -1] = np.nan
    assert result.verdict("two") == "cannot be told" and result.missing == {"two": 4 * 9}


def test_files(tmp_path):
    result = _result({"one": 0, "two": 0.5, "three": 0, "four": 0, "five": 0})
    table, plot = write_sanity(result, tmp_path / "new")
    rows = list(csv.DictReader(table.open()))
    assert list(rows[0])[:5] == ["image", "target", "method", "metric", "value"]
    assert len(rows) == sum(values.size for values in result.values.values())
    (row,) = (
        row
        for row in rows
        if (row["image"], row["method"], row["metric"], row["step"], row["draw"])
        == ("c", "shifted:two", "ssim", "embedding", "2")
    )
    assert float(row["value"]) == result.values["shifted:two", "ssim"][1, 2, 2]
    text = plot.read_text()
    assert text.count("<!-- two: no -->") == 1 and not re.search(r"(href|src)=.?https?://", text.replace("xlink:", ""))
    write_sanity(result, tmp_path / "new")  # replaced


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert [path.name for path in write_sanity(_result({"one": 0}), tmp_path)] == ["sanity.csv"]
