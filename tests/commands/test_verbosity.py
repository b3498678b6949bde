"""What is printed and how much of it: --version, -h, --quiet, --top-k, --verbose, and the stages of the work."""

import io
from importlib.metadata import version
from pathlib import Path

import pytest

from onnxplain.commands import display
from onnxplain.runtime import Explainer, OnnxplainError
from tests.helpers.command_line import contents, run

pytestmark = pytest.mark.usefixtures("folder")


def test_version():
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"onnxplain {version('onnxplain')}\n", "")


@pytest.mark.parametrize(
    "command", [[], ["export"], ["probe"], ["explain"], ["models"], ["methods"], ["info"], ["triton"]]
)
def test_short_help(command):
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.exit_code == 0 and "Usage" in short.stdout and short.stdout == long.stdout


def test_quiet(artifact):
    """The same is written, and errors are still told."""
    result = run("explain", artifact, "cat.png", "cut.png", "--all-methods", "--quiet", "--output", "out")
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "cut.png" in result.stderr
    assert [path.name for path in Path("out").iterdir()] == ["cat.png.tiny.sheet.png"]


def test_quiet_export(exporter):
    result = run("export", "--model", "vit", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "") and Path("artifacts/vit.onnx").exists()


@pytest.mark.parametrize("count", [1, 3, 6, 100])
def test_top_k(artifact, count):
    """The classes in the order of their ranks, as many as there are."""
    expected = [Explainer(artifact).explain("cat.png", -rank).target for rank in range(1, min(count, 6) + 1)]
    given = Explainer(artifact, top_k=count).explain("cat.png").predictions
    assert [index for index, _, _ in given] == expected
    lines = run("explain", artifact, "cat.png", "--top-k", count).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("───")) + 1
    shown = [line.split() for line in lines[start : start + len(expected) + 1]]
    assert [int(row[-2]) for row in shown[:-1]] == expected and shown[-1][:1] != [str(len(expected) + 1)]


def test_five_predictions_unless_told_otherwise(artifact):
    assert len(Explainer(artifact).explain("cat.png").predictions) == 5
    with pytest.raises(OnnxplainError, match="`top_k` must be a whole number of at least 1, got 0"):
        Explainer(artifact, top_k=0)
    before = contents()
    assert run("explain", artifact, "cat.png", "--top-k", 0).exit_code == 2 and contents() == before


# --- the stages of the work


def test_stages_are_lines_in_a_pipe(exporter):
    lines = run("export", "--model", "vit").stdout.splitlines()
    assert lines[:4] == ["importing PyTorch", "loading vit", "loading", "tracing"]


def test_how_far_a_stage_is_takes_no_lines():
    console = display.PlainConsole(file=io.StringIO(), width=20)
    with display.stages(console, "first") as tell:
        for stage in (
            "get x",
            "get x, 1 of 3 MB",
            "get x, 2 of 3 MB",
            "trace\x1b[31m it, but slowly",
            "get x, 3 of 3 MB",
        ):
            tell(stage)
    assert console.file.getvalue() == "first\nget x\ntrace\\x1b[31m it\nget x\n"


def test_stages_in_a_terminal_are_a_line_that_changes():
    console = display.PlainConsole(file=io.StringIO(), width=40, force_terminal=True)
    with display.stages(console, "first") as tell:
        tell("get x, 1 of 3 MB")
    assert "get x, 1 of 3 MB" in console.file.getvalue() and console.file.getvalue().endswith("\x1b[2K")


# --- the comparison with PyTorch


def _check(output, value, limit=1e-6):
    return {"output": output, "check": "error", "value": value, "limit": limit, "passed": value <= limit}


RIGHT, WRONG = "the file computes what the model", "the file does not compute what the model"


@pytest.mark.parametrize(
    ("checks", "verdict", "passed", "near"),
    [
        ([("logits", 1e-9), ("relevance", 9e-8)], RIGHT, "2 of 2", []),
        ([("logits", 1e-9), ("relevance", 1.1e-7), ("attention", 0.0)], RIGHT, "3 of 3", ["relevance"]),
        ([("logits", 2e-6), ("relevance", 1e-9)], WRONG, "1 of 2", ["logits"]),
        ([("logits", float("nan")), ("relevance", 1e-6)], WRONG, "1 of 2", ["logits", "relevance"]),
    ],
)
def test_the_verdict_and_what_comes_near_its_limit(exporter, checks, verdict, passed, near):
    exporter.parity = {"checks": [_check(*row) for row in checks], "notes": ["reciprocam: left out"]}
    for options, names in (([], near), (["--verbose"], [name for name, _ in checks])):
        lines = run("export", "--model", "vit", "--force", *options).stdout.splitlines()
        assert [line.split()[0] for line in lines if "≤" in line] == names
        assert sum("reciprocam: left out" in line for line in lines) == 1
        (line,) = [line for line in lines if line.startswith("the file ")]
        assert line.startswith(verdict) and f" {passed} comparisons " in line
        assert ("none within a factor of 10" in line) == (not names)
        (*heading,) = (line for line in lines if line.endswith("within a factor of 10 of their limit:"))
        assert len(heading) == (bool(near) and not options)


def test_info_shows_all_of_it(artifact):
    rows = [line.split()[0] for line in run("info", artifact).stdout.splitlines() if "≤" in line]
    assert rows == ["logits", "relevance"]
