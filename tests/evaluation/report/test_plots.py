"""The plots are SVG with text as text, the same each time, and tell methods apart without colour."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from onnxplain.evaluation.report.plots import plots
from onnxplain.evaluation.report.style import styles
from onnxplain.evaluation.statistics import summarize
from tests.helpers.evaluations import COSTS, ROWS, only, realistic, results_of, row

METHODS = ("rollout", "legrad", "integrated_gradients", "gradcam")


def _results():
    return only(realistic(images=6, methods=METHODS), "perturbation_positive", "saco", "mass", "sparseness")


@pytest.fixture(scope="module")
def drawn():
    results = _results()
    return plots(summarize(results, ROWS, 50), ROWS, results.costs)


def test_which_plots_there_are(drawn):
    of = {kind: [plot.metric for plot in drawn if plot.kind == kind] for kind in ("bars", "curve", "cost")}
    assert of == {
        "bars": ["perturbation_positive", "saco", "mass", "sparseness"],
        "curve": ["perturbation_positive"],
        "cost": ["perturbation_positive", "saco"],
    }


def test_they_are_documents_with_text_and_without_what_a_strict_page_forbids(drawn):
    for plot in drawn:
        root = ElementTree.fromstring(plot.svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("aria-label") == plot.title
        texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert texts >= {*METHODS, "random", "constant", "gaussian"}
        assert "style" not in plot.svg and "<metadata" not in plot.svg and "<!" not in plot.svg
        addresses = re.findall(r'(?:href="|url\()(.)', plot.svg)
        assert set(addresses) == {"#"}
        known = {element.get("id") for element in root.iter()}
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', plot.svg)) <= known


def test_they_are_the_same_each_time_whatever_the_user_has_set(drawn):
    results = _results()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert plots(summarize(results, ROWS, 50), ROWS, results.costs) == drawn


def test_no_two_methods_look_alike():
    found = styles(tuple(COSTS))
    assert len({(style.dashes, style.colour) for style in found.values()}) == len(COSTS) + 3
    assert len({(found[name].marker, found[name].colour) for name in COSTS}) == len(COSTS)


def test_one_image_and_a_metric_without_values():
    ratio = row("ratio", "higher", combine=lambda means: means[..., 0] / means[..., 1])
    rows = {"score": row("score", "higher", copies=list), "ratio": ratio}
    image = {"measured": [(0, "a", "score", (0.0,)), (0, "a", "ratio", (0.0, 0.0))]}
    results = results_of([image])
    assert [plot[:2] for plot in plots(summarize(results, rows), rows, results.costs)] == [
        ("bars", "score"),
        ("cost", "score"),
    ]


@pytest.mark.parametrize(("cost", "ticks"), [(2.1, ["2", "5"]), (4000, ["10", "100", "1000", "10000"])])
def test_costs_have_numbers_at_their_axis(cost, ticks):
    rows = {"score": row("score", "higher", copies=list)}
    images = [{"measured": [(0, name, "score", (0.5,)) for name in ("a", "b")]}] * 3
    results = results_of(images, costs={"a": 1.9, "b": cost})
    svg = next(plot.svg for plot in plots(summarize(results, rows), rows, results.costs) if plot.kind == "cost")
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[: texts.index("cost of a map, in runs for logits only")] == ticks


@pytest.mark.parametrize(("yardstick", "linear"), [(-0.05, True), (0.3, False)])
def test_an_axis_is_not_logarithmic_where_a_yardstick_has_no_place_on_it(yardstick, linear):
    rows = {"score": row("score", "higher", copies=list)}
    values = {"a": 0.9, "b": 0.01, "gaussian": yardstick}
    results = results_of([{"measured": [(0, name, "score", (value,)) for name, value in values.items()]}] * 3)
    results = replace(results, costs={"a": 2.0, "b": 3.0})
    for plot in plots(summarize(results, rows, 50), rows, results.costs):
        texts = [element.text for element in ElementTree.fromstring(plot.svg).iter("{http://www.w3.org/2000/svg}text")]
        assert ("0.2" in texts) == linear, (plot.kind, texts)
