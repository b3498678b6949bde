"""`explain` with several methods: files or a sheet, in the order given, from one run; and `explain_all` of some."""

from pathlib import Path

import numpy as np
import pytest

from onnxplain.runtime import Explainer, OnnxplainError, comparison_sheet
from tests.helpers.command_line import assert_mistake, read_pixels, run
from tests.helpers.spy import Spy, assert_same

pytestmark = pytest.mark.usefixtures("folder")

TWO = ["--method", "gmar", "--method", "Raw-Attention"]


def test_a_file_for_each_method_and_class(artifact):
    result = run("explain", artifact, "cat.png", *TWO, "--target", "Dog", "--target", 3, "--norm", "l2", "--layer", 0)
    assert result.exit_code == 0 and result.stderr == ""
    explainer = Explainer(artifact, "cpu")
    names = []
    for target, name in (("Dog", "dog"), (3, "crane")):
        for method, given in (("gmar", {"norm": "l2"}), ("raw_attention", {"layer": 0})):
            names.append(f"explanations/cat.png.tiny.{method}.{name}.png")
            expected = explainer.explain("cat.png", target, method, **given).figure()
            np.testing.assert_array_equal(read_pixels(names[-1]), np.asarray(expected))
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line for line in lines if line.endswith(".png")] == names  # where each line says they are
    assert lines[-1] == "wrote 4 files into explanations"
    assert [line.split()[0] for line in lines if " highest at " in line] == ["gmar", "raw_attention"] * 2


def test_a_sheet_of_those_given(artifact):
    result = run("explain", artifact, "cat.png", *TWO, "--sheet", "--start-layer", 1)
    assert result.exit_code == 0 and [item.name for item in Path("explanations").iterdir()] == [
        "cat.png.tiny.sheet.png"
    ]
    answers = Explainer(artifact).explain_all(
        "cat.png", [-1], methods={"gmar": {"start_layer": 1}, "raw_attention": {}}
    )
    expected = np.asarray(comparison_sheet(answers)).astype(int)
    np.testing.assert_allclose(read_pixels("explanations/cat.png.tiny.sheet.png").astype(int), expected, atol=2)
    assert "wrote 1 file into explanations" in result.stdout


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("none of the methods gmar, raw_attention has the parameter --masks", [*TWO, "--masks", "9"]),
        ("method gmar is given twice", ["--method", "gmar", "--method", "GMAR"]),
        ("there is no method 'gmra'; did you mean 'gmar'", ["--method", "rollout", "--method", "gmra"]),
        ("--norm must be one of l1, l2", [*TWO, "--norm", "l3"]),
    ],
)
def test_mistakes(artifact, message, options):
    assert_mistake(message, "explain", artifact, "cat.png", *options)


def test_explain_all_of_some_in_their_order_and_from_one_run(artifact):
    explainer = Explainer(artifact, device="cpu", threads=1)
    names = ["legrad", "rollout", "grad_rollout"]
    expected = {name: explainer.explain("cat.png", 2, name) for name in names}
    most = explainer.explain("cat.png", 2, "rollout", head_fusion="max")
    spy = explainer._artifact._session = Spy(explainer._artifact._session)
    given = explainer.explain_all("cat.png", 2, methods=names)
    assert list(given) == names and len(spy.runs) == 1
    for name in names:
        assert_same(given[name], expected[name])
    rows = list(explainer.explain_all_many(["cat.png"] * 2, 2, methods={"Rollout": {"head_fusion": "max"}}))
    for row in rows:
        assert list(row) == ["rollout"]
        assert_same(row["rollout"], most)


@pytest.mark.parametrize(
    ("message", "methods"),
    [
        (r"write \['rollout'\]", "rollout"),
        ("must be a list of names", 5),
        ("the list of methods is empty", []),
        ("a method must be a name, got int", [5]),
        ("gmar is given twice", {"gmar": {}, "Gmar": {"norm": "l2"}}),
        ("has no parameter `masks`", {"gmar": {"masks": 5}}),
        ("parameters of gmar must be a mapping", {"gmar": "l2"}),
    ],
)
def test_methods_that_are_none(artifact, message, methods):
    with pytest.raises(OnnxplainError, match=message):
        Explainer(artifact, device="cpu").explain_all("cat.png", methods=methods)


def test_one_method_with_several_parameters(artifact):
    texts = ["rollout", "rollout:head_fusion=max", "gmar:norm=l2"]
    options = [part for text in texts for part in ("--method", text)]
    result = run("explain", artifact, "cat.png", *options, "--target", "Dog", "--start-layer", 1)
    assert result.exit_code == 0 and result.stderr == ""
    explainer = Explainer(artifact, "cpu")
    for name, (method, given) in {
        "rollout": ("rollout", {}),
        "rollout-head_fusion=max": ("rollout", {"head_fusion": "max"}),
        "gmar-norm=l2": ("gmar", {"norm": "l2"}),
    }.items():
        expected = explainer.explain("cat.png", "Dog", method, start_layer=1, **given).figure()
        assert np.array_equal(read_pixels(f"explanations/cat.png.tiny.{name}.dog.png"), np.asarray(expected))
    for text in texts:
        assert f"  {text} " in result.stdout
    given = ("explain", artifact, "cat.png", "--method", texts[1], "--head-fusion", "min", "--output", "own")
    own = run(*given, "--method", "rollout")  # what stands behind the name counts for that method
    assert own.exit_code == 0 and len(list(Path("own").iterdir())) == 2
    expected = explainer.explain("cat.png", -1, "rollout", head_fusion="max").figure()
    (file,) = Path("own").glob("*head_fusion=max*")
    assert np.array_equal(read_pixels(file), np.asarray(expected))
    assert_mistake("--head-fusion stands behind the name of every method", *given)
    assert_mistake(
        "'rollout:norm=l2': method rollout has no parameter norm",
        "explain",
        artifact,
        "cat.png",
        "--method",
        "rollout:norm=l2",
    )
