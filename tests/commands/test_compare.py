"""`explain` with several artifacts: each model as it is alone, the class matched by label, on one sheet."""

import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from onnxplain.contract import Preprocessing
from onnxplain.contract.errors import MethodError, OnnxplainError
from onnxplain.runtime import Explainer, models_sheet
from onnxplain.runtime.comparison import ModelComparison
from onnxplain.runtime.figures.figure import fitted, resized
from onnxplain.runtime.targets import class_like
from tests.helpers.command_line import assert_mistake, read_pixels, run
from tests.helpers.tiny_artifact import LABELS, SIZE, build

pytestmark = pytest.mark.usefixtures("folder")

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/explain.schema.json").read_text())
OTHERS = ["crate", "TABBY,  cat of any kind", "dog", "crane", "snail", "owl"]  # tabby is 1, Dog 2, there are two cranes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two models with other labels and preprocessing, and one that has attention only."""
    folder = tmp_path_factory.mktemp("models")
    squashed = Preprocessing(SIZE, (0.4,) * 3, (0.3,) * 3, 1.0, "squash", "bilinear")
    return [
        build(folder / "first.onnx"),
        build(folder / "second.onnx", labels=OTHERS, preprocessing=squashed, model="other"),
        build(folder / "third.onnx", passes=("attention",), labels=OTHERS[:6]),
    ]


def test_classes_are_matched_by_label():
    labels = ["tabby, tabby cat", "Tiger  cat", "cat", "dog, hound", "wolf, hound", "crane", "crane"]
    for label, index in {
        "TABBY,  Tabby cat": 0, "tabby": 0, "tiger cat": 1, "tiger cat, tabby": None, "dog": 3, "hound": None,
        "crane": None, "cat, tabby cat": None, "": None, "lion": None,
    }.items():  # fmt: skip
        assert class_like(label, labels) == index, label


def test_each_model_answers_as_it_does_alone(files):
    explainers = [Explainer(path, "cpu", threads=1) for path in files]
    methods = ["grad_rollout", "rollout:head_fusion=max"]
    comparison = ModelComparison(explainers, methods)
    first, second, third = comparison.ask("cat.png", ["tabby", "Dog"])
    assert first.classes == (0, LABELS.index("Dog")) and second.classes == third.classes == (1, 2)
    for answer, explainer in ((first, explainers[0]), (second, explainers[1])):
        for key in methods:
            name, _, given = key.partition(":")
            parameters = {"head_fusion": "max"} if given else {}
            for item, index in zip(answer.results[key], answer.classes, strict=True):
                alone = explainer.explain("cat.png", index, name, **parameters)
                assert np.array_equal(item.heatmap, alone.heatmap) and item.target == index
    assert list(third.results) == ["rollout:head_fusion=max"]  # it has no gradient
    rows = comparison.rows([first, second, third])
    assert [row.title for row in rows] == ["tiny (first.onnx)", "other", "tiny (third.onnx)"] * 2
    assert rows[2].cells[0].content == "not possible with this file"
    assert rows[1].about == f"TABBY, cat of any kind, {second.results[methods[0]][0].probability:.1%}"
    assert not isinstance(rows[2].cells[1].content, str)


def test_a_class_that_a_model_lacks(files):
    comparison = ModelComparison([Explainer(path, "cpu") for path in files[:2]], ["legrad", "rollout"])
    answers = comparison.ask("cat.png", ["tiger cat", "tabby"])
    assert answers[1].classes == (None, 1)
    rows = comparison.rows(answers)
    assert rows[1].about == "no class tiger cat" and rows[1].cells[0].content == "no class tiger cat"
    assert rows[1].cells[1].content is answers[1].free["rollout"]
    assert rows[3].cells[0].content is answers[1].results["legrad"][0]
    (alone,) = comparison.ask("cat.png", ["tiger cat"])[1:]
    assert list(alone.results) == ["rollout"] and alone.classes == (None,)


def test_ranks_are_those_of_the_first_model(files):
    explainers = [Explainer(path, "cpu") for path in files[:2]]
    best, runner_up = explainers[0].explain("cat.png", [-1, -2])
    first, second = ModelComparison(explainers, ["rollout"]).ask("cat.png", [-2, -1, runner_up.target])
    assert first.classes == (runner_up.target, best.target)  # the same class once
    assert second.classes == tuple(class_like(one.label, OTHERS) for one in (runner_up, best))


def test_one_sheet_for_each_image(files):
    result = run("explain", *files[:2], "cat.png", "pictures", "--method", "legrad", "--target", "tabby")
    assert result.exit_code == 0 and result.stderr == ""
    names = ["a.png", "b.webp", "c.JPG", "cat.png"]
    assert sorted(path.name for path in Path("explanations").iterdir()) == [
        f"{name}.first+second.models.png" for name in names
    ]
    explainers = [Explainer(path, "cpu") for path in files[:2]]
    sheet = read_pixels("explanations/cat.png.first+second.models.png")
    assert np.array_equal(sheet, np.asarray(models_sheet(explainers, "cat.png", "tabby", ["legrad"])))
    for explainer, target in zip(explainers, (0, 1), strict=True):
        item = explainer.explain("cat.png", target, "legrad")
        part = np.asarray(resized(item, fitted(item.image.size, 224, 224)).overlay())
        corners = np.argwhere((sheet[: 1 - len(part), : 1 - part.shape[1]] == part[0, 0]).all(-1))
        assert any((sheet[y : y + len(part), x : x + part.shape[1]] == part).all() for y, x in corners)
    assert result.stdout.count("tabby, tabby cat (class 0)") == 4 == result.stdout.count("any kind (class 1)")


def test_methods_that_are_not_named(files):
    assert run("explain", *files[:2], "cat.png").exit_code == 0
    assert run("explain", *files, "cat.png", "--all-methods", "--output", "all").exit_code == 0
    comparison = ModelComparison([Explainer(path, "cpu") for path in files])
    assert comparison.keys == ("rollout",)  # the only kind that the third allows; the first two would have others
    assert ModelComparison([Explainer(path, "cpu") for path in files[:2]]).keys == ("transformer_attribution",)


def test_json_has_a_line_for_each_image_and_model(files):
    Path("bad.png").write_text("no picture")
    result = run("explain", *files[:2], "cat.png", "bad.png", "--json", "--target", "Dog", "--method", "rollout")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert [Path(line["artifact"]).name for line in lines] == ["first.onnx", "second.onnx"] * 2
    assert [line["explanations"][0]["label"] for line in lines[:2]] == ["Dog", "dog"]
    assert all("bad.png" in line["error"] for line in lines[2:])


def test_a_model_without_the_class_has_a_line_with_its_predictions(files):
    options = ("--json", "--target", "tiger cat", "--method", "grad_rollout")
    result = run("explain", files[0], files[1], files[2], "cat.png", *options)
    assert result.exit_code == 0 and result.stderr == ""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [len(line["explanations"]) for line in lines] == [1, 0, 0]  # no such class; no such class and no gradient
    assert lines[0]["files"] == lines[1]["files"] == lines[2]["files"] != []
    for line, file in zip(lines, files, strict=True):
        Draft202012Validator(SCHEMA).validate(line)
        best = Explainer(file, "cpu").explain("cat.png", method="rollout").predictions
        assert [item["label"] for item in line["predictions"]] == [label for _, label, _ in best]


def test_a_model_that_has_the_class_and_none_of_the_methods(files):
    result = run("explain", files[0], files[2], "cat.png", "--method", "grad_rollout", "--target", "tabby")
    assert result.exit_code == 0 and result.stderr == ""
    assert "not possible with this file: grad_rollout" in result.stdout and "no class" not in result.stdout
    comparison = ModelComparison([Explainer(path, "cpu") for path in (files[0], files[2])], ["grad_rollout"])
    assert comparison.rows(comparison.ask("cat.png", ["tabby"]))[1].about == "TABBY, cat of any kind"


def test_what_is_told_beside_the_sheets(tmp_path):
    """As with one artifact: which maps are inexact, also where nothing else is printed, and how many are done."""
    files = [
        build(tmp_path / "vague.onnx", resolution={"rollout": 0.25}, model="vague"),
        build(tmp_path / "fine.onnx", model="fine"),
    ]
    given = ("explain", *files, "cat.png", "pictures", "--method", "rollout")
    plain, quiet, lines = run(*given), run(*given, "--quiet"), run(*given, "--json")
    assert "explained 4 of 4 images in " in plain.stdout and plain.stderr == ""
    for result in (quiet, lines):
        assert result.stderr.startswith("warning: vague: rollout is inexact: ") and result.stderr.count("\n") == 1


def test_mistakes_in_methods_are_not_passed_over(files):
    """Only what an artifact lacks leaves a cell empty."""
    for options, message in {
        ("--method", "legrad", "--method", "rollout", "--discard-ratio", 7): "--discard-ratio must be a number",
        ("--method", "legrad", "--method", "rollout:discard_ratio=7"): "discard_ratio must be a number",
        ("--method", "legrad", "--method", "LeGrad"): "method legrad is given twice",
    }.items():
        assert_mistake(message, "explain", *files[:2], "cat.png", *options)
    explainers = [Explainer(path, "cpu") for path in files]
    with pytest.raises(MethodError, match="there is no method 'rollot'"):
        models_sheet(explainers[:2], "cat.png", methods=["legrad", "rollot"])
    with pytest.raises(MethodError, match="needs the pass gradient"):
        ModelComparison(explainers[2:], ["rollout", "grad_rollout"])
    with pytest.raises(MethodError, match="`methods` must be a list of names"):
        ModelComparison(explainers, 5)
    for wrong in ([3], explainers[0]):
        with pytest.raises(OnnxplainError, match="models_sheet takes a list of Explainers"):
            models_sheet(wrong, "cat.png")
    names = ("legrad", "rollout")
    assert ModelComparison(explainers[:2], (name for name in names)).keys == names


def test_mistakes(files):
    assert_mistake("give images behind the artifacts", "explain", *files[:2])
    assert_mistake("--save is for a single artifact", "explain", *files[:2], "cat.png", "--save", "npz")
    assert_mistake("--report is for a single artifact", "explain", *files[:2], "cat.png", "--report", "r")
    assert_mistake("--sweep is for a single artifact", "explain", *files[:2], "cat.png", "--sweep", "layer=0:1:2")
    assert_mistake("there is no method 'rolout'", "explain", *files[:2], "cat.png", "--method", "rolout")
    assert_mistake("there is no label 'lion'", "explain", *files[:2], "cat.png", "--target", "lion")
    assert_mistake("none.onnx", "explain", files[0], "none.onnx", "cat.png")
    assert_mistake("needs the pass gradient", "explain", files[2], files[0], "cat.png", "--method", "grad_rollout")
    with pytest.raises(OnnxplainError, match="there are no models to compare"):
        models_sheet([], "cat.png")
    with pytest.raises(MethodError, match="there is no method that all of these files allow"):
        plain = [Explainer(files[0], "cpu"), Explainer(files[0], "cpu")]
        for explainer, name in zip(plain, ("rollout", "legrad"), strict=True):
            object.__setattr__(explainer.metadata, "heatmaps", {name: {}})
        ModelComparison(plain)
