"""`explain` with the methods' options, and --all-methods: one comparison sheet for each picture, from one run."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from onnxplain.commands import display
from onnxplain.runtime import METHODS, Explainer, Placement, comparison_sheet
from onnxplain.runtime.backends.onnx import OnnxArtifact
from onnxplain.runtime.figures import sheet as sheets
from tests.helpers.command_line import assert_mistake, random_image, read_pixels, run
from tests.helpers.spy import Spy, assert_same
from tests.helpers.tiny_artifact import LABELS, build

pytestmark = pytest.mark.usefixtures("folder")

pytest.importorskip("scipy")


@pytest.mark.parametrize(
    ("method", "options", "parameters"),
    [
        ("raw_attention", ["--layer", "0"], {"layer": 0}),
        ("last_layer", ["--layer", "-2"], {"layer": -2}),
        ("gmar", ["--norm", "l2", "--start-layer", "1"], {"norm": "l2", "start_layer": 1}),
        ("attention_flow", [], {}),
        ("legrad", ["--layers", "1"], {"layers": 1}),
        ("integrated_gradients", ["--steps", "3", "--baseline", "mean"], {"steps": 3, "baseline": "mean"}),
        (
            "smoothgrad",
            ["--samples", "3", "--noise", "0.3", "--seed", "7"],
            {"samples": 3, "noise": 0.3, "seed": 7},
        ),
        (
            "rise",
            ["--masks", "5", "--cells", "3", "--probability", "0.25", "--seed", "2"],
            {"masks": 5, "cells": 3, "probability": 0.25, "seed": 2},
        ),
    ],
)
def test_options(artifact, method, options, parameters):
    result = run("explain", artifact, "cat.png", "--method", method, "--target", 3, *options)
    assert result.exit_code == 0 and result.stderr == ""
    expected = Explainer(artifact).explain("cat.png", 3, method, **parameters)
    np.testing.assert_array_equal(
        read_pixels(f"explanations/cat.png.tiny.{method}.crane.png"), np.asarray(expected.figure())
    )


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("--layer must be a layer number", ["--method", "raw_attention", "--layer", "2"]),
        ("--norm must be one of l1, l2, got 'max'", ["--method", "gmar", "--norm", "max"]),
        ("has no parameter --norm", ["--norm", "l1"]),
        ("has no parameter --masks; it has: --start-layer", ["--masks", "10"]),
        ("--layers must be how many of the last layers count", ["--method", "legrad", "--layers", "3"]),
        ("--steps must be an integer of at least 1, got 0", ["--method", "integrated_gradients", "--steps", "0"]),
        ("baseline must be one of", ["--method", "integrated_gradients", "--baseline", "white"]),
        ("--samples must be", ["--method", "smoothgrad", "--samples", "-1"]),
        ("--noise must be a finite number", ["--method", "smoothgrad", "--noise", "inf"]),
        ("--masks must be", ["--method", "rise", "--masks", "0"]),
        ("cells must be", ["--method", "rise", "--cells", "0"]),
        ("probability must be a number above 0", ["--method", "rise", "--probability", "0"]),
        ("seed must be", ["--method", "rise", "--seed", "-1"]),
        ("'--masks': Input should be a valid integer", ["--method", "rise", "--masks", "many"]),
        ("shows every method with its defaults; leave out --method", ["--all-methods", "--method", "gmar"]),
        ("leave out --head-fusion", ["--all-methods", "--head-fusion", "max"]),
        ("leave out --layer", ["--all-methods", "--layer", "0"]),
        ("there is no label 'tabbi'", ["--all-methods", "--target", "tabbi"]),
    ],
)
def test_mistakes(artifact, message, options):
    assert_mistake(message, "explain", artifact, "cat.png", *options)


def test_methods_lists_them_all():
    out = run("methods").stdout
    assert all(text in out for text in (*METHODS, "layer=-1", "norm=l1", "noise=0.15", "masks=1000"))


def test_a_sheet_for_each_image_from_one_run(artifact, monkeypatch):
    runs = []
    once = OnnxArtifact.run

    def spy(self, pixels, targets, outputs):
        runs.append((len(pixels), len(targets), len(set(outputs)) > 1))
        return once(self, pixels, targets, outputs)

    monkeypatch.setattr(OnnxArtifact, "run", spy)
    targets = ["--target", "-1", "--target", "Dog"]
    result = run("explain", artifact, "pictures", "cat.png", "cut.png", "--all-methods", *targets, "--output", "out")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and "cut.png" in result.stderr
    assert runs[0] == (4, 2, True) and not any(shared for _, _, shared in runs[1:])
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"{name}.tiny.sheet.png" for name in ("a.png", "b.webp", "c.JPG", "cat.png")
    ]
    expected = comparison_sheet(Explainer(artifact).explain_all("cat.png", [-1, "Dog"]))
    np.testing.assert_allclose(
        read_pixels("out/cat.png.tiny.sheet.png").astype(int), np.asarray(expected).astype(int), atol=2
    )
    for method in METHODS:
        assert result.stdout.count(f"  {method} ") == 8
    assert "left out" not in result.stdout and "out/cat.png.tiny.sheet.png" in result.stdout


def test_a_sheet_replaces_nothing_and_says_what_is_left_out(artifact, monkeypatch):
    mine = Path("explanations/cat.png.tiny.sheet.png")
    mine.parent.mkdir()
    mine.write_text("mine")
    monkeypatch.setitem(sys.modules, "scipy", None)
    result = run("explain", artifact, "cat.png", "--all-methods")
    assert result.exit_code == 0 and "left out: attention_flow: it needs scipy: pip install" in result.stdout
    assert mine.read_text() == "mine" and Path("explanations/cat.png.tiny.sheet-2.png").exists()
    assert_mistake("attention_flow cannot run here", "explain", artifact, "cat.png", "--method", "attention_flow")


def test_explain_all_equals_explain_from_one_run(artifact):
    explainer = Explainer(artifact, device="cpu", threads=1)
    expected = {name: explainer.explain("cat.png", [2, -1], name) for name in METHODS}
    one = {name: explainer.explain("cat.png", 2, name) for name in METHODS}
    spy = explainer._artifact._session = Spy(explainer._artifact._session)
    given = explainer.explain_all("cat.png", [2, -1])
    assert [len(outputs) > 3 for outputs, _, _ in spy.runs].count(True) == 1 and list(given) == list(METHODS)
    for name in METHODS:
        for item, other in zip(given[name], expected[name], strict=True):
            assert_same(item, other)
        assert not np.shares_memory(given[name][0].heatmap, given[name][1].heatmap)
        assert_same(explainer.explain_all("cat.png", 2)[name], one[name])
    rows = explainer.explain_all_many(iter(["cat.png", "pictures/a.png"]), 2, batch_size=1)
    assert [row["rollout"].image.size for row in rows] == [(60, 40)] * 2


def test_explain_all_runs_only_the_passes_there_are(tmp_path):
    explainer = Explainer(build(tmp_path / "x.onnx", passes=("attention",)), device="cpu")
    enough = [name for name, method in METHODS.items() if set(method.passes) <= {"attention"}]
    assert list(explainer.explain_all("cat.png")) == enough and "rollout" in enough


@pytest.mark.parametrize("size", [(60, 40), (40, 90), (300, 300), (1200, 20)])
@pytest.mark.parametrize("count", [1, 6, 7, len(METHODS)])
def test_the_sheet_shows_image_and_overlays_in_place(artifact, size, count):
    picture = random_image(1).resize(size)
    answers = Explainer(artifact, device="cpu").explain_all(picture, [0, 1, 3])
    sheet = comparison_sheet(dict(list(answers.items())[:count]))
    width, height = sheets.fitted(size, sheets.CELL, sheets.CELL)
    assert max(width, height) == sheets.CELL and width * size[1] == pytest.approx(height * size[0], rel=0.1)
    pixels, bare = np.asarray(sheet), np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
    windows = np.lib.stride_tricks.sliding_window_view(pixels[:, sheets.MARGIN, 0], height)
    tops = [top for top in np.flatnonzero((windows == bare[:, 0, 0]).all(1))]
    tops = [top for top in tops if (pixels[top : top + height, sheets.MARGIN : sheets.MARGIN + width] == bare).all()]
    lines = -(-(count + 1) // sheets.COLUMNS)
    columns = -(-(count + 1) // lines)
    assert len(tops) == 3 and columns <= sheets.COLUMNS
    assert tops[1] - tops[0] == tops[2] - tops[1] >= lines * height and sheet.height >= tops[2] + lines * height
    assert columns * width <= sheet.width <= columns * max(width + sheets.GAP, 200) + 2 * sheets.MARGIN


def test_no_map_is_passed_over_where_it_is_made_smaller(artifact):
    item = Explainer(artifact, device="cpu").explain(random_image(1).resize((1000, 1000)), 0, "attnlrp")
    fine = np.zeros((512, 512), np.float32)
    bare = replace(item, input_heatmap=fine, placement=Placement((1000, 1000), (512, 512), (0, 0), (512, 512)))
    lit = replace(bare, input_heatmap=fine.copy(), tokens=np.zeros((32, 32), np.float32))
    lit.input_heatmap[301, 199] = 1  # a single pixel
    shown, blank = (np.asarray(comparison_sheet({"x": [one]})) for one in (lit, bare))
    assert (shown[: len(blank)] != blank)[: 100 + sheets.CELL].any()  # above the legend, which the blank one lacks


def test_the_sheet_shows_overlays_as_they_are_alone(artifact):
    """A photograph, of which the model sees the middle: where it is as large as on the sheet, to the last bit."""
    picture = random_image(1).resize((sheets.CELL, 90))
    for name, (item,) in Explainer(artifact, device="cpu").explain_all(picture, [3]).items():
        alone = np.asarray(item.overlay())
        sheet = np.asarray(comparison_sheet({name: [item]}))
        height, width = alone.shape[:2]
        corners = np.argwhere((sheet[: 1 - height, : 1 - width] == alone[0, 0]).all(-1))
        assert any((sheet[y : y + height, x : x + width] == alone).all() for y, x in corners), name


def test_long_and_foreign_labels_fit(tmp_path):
    labels = ["word " * 200, "猫\nx", *LABELS[2:]]
    answers = Explainer(build(tmp_path / "x.onnx", passes=("attention",), labels=labels), "cpu").explain_all(
        "cat.png", [0, 1]
    )
    pixels = np.asarray(comparison_sheet(answers))
    assert (pixels[:, -sheets.MARGIN :] == 255).all()


def test_bars_show_images_and_the_runs_of_the_image_at_hand():
    console = Console(force_terminal=True, width=80, file=io.StringIO())
    with display.ExplainingProgress(console, 2) as progress:
        pictures, runs = progress.tasks
        assert pictures.total == 2 and not runs.visible
        progress.runs(8, 25)
        assert (runs.completed, runs.total, runs.visible) == (8, 25, True)
        progress.runs(25, 25)
        assert not runs.visible
        progress.next_image()
        assert pictures.completed == 1
    quiet = Console(file=io.StringIO())
    with display.ExplainingProgress(quiet, 1) as progress:
        progress.runs(1, 2)
    assert quiet.file.getvalue() == ""


def test_the_command_line_passes_progress_on(artifact, monkeypatch):
    told = []
    monkeypatch.setattr(display.ExplainingProgress, "runs", lambda self, *numbers: told.append(numbers))
    assert run("explain", artifact, "cat.png", "--method", "smoothgrad", "--samples", 9).exit_code == 0
    assert told == [(8, 9), (9, 9)]
    assert run("explain", artifact, "cat.png", "--all-methods").exit_code == 0
    assert told[-1] == (1057, 1057)
