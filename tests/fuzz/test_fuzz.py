"""A hundred cases of the fuzz program, and whether it would notice what it looks for."""

import ctypes
import faulthandler
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onnxplain import cli
from onnxplain import export as package
from onnxplain.export import export_model, load_backbone
from onnxplain.runtime import OnnxplainError
from tests.fuzz import checkpoints, exports, folders_of_transformers, report, runner, sandbox, server
from tests.fuzz.cases import BAD, VERDICTS, Case, Outcome, verdict

LIMITS = sandbox.Limits(seconds=1.5, peak=2**26, most=2**27)
PATIENT = replace(LIMITS, seconds=60)
"""For what ends by itself, however busy the machine is."""


@pytest.mark.slow
def test_a_hundred_cases():
    results = list(runner.run(runner.numbered(runner.KINDS, 100), seed=0, jobs=1))
    assert [report.describe(item, 0) for item in report.bad(results)] == []
    assert len(results) == 100 and {item["kind"] for item in results} == set(runner.KINDS)
    for kind in runner.KINDS:
        found = {item["verdict"] for item in results if item["kind"] == kind}
        assert found == {"clean error", "correct"}, kind


def _error(message="error: no such thing", status=2):
    print(message, file=sys.stderr)
    raise SystemExit(status)


def _segfault():
    faulthandler.disable()
    ctypes.string_at(0)


def _grow():
    held = []
    while True:
        held.append(bytes(range(256)) * 2**14)


def _loop():
    while True:
        pass


def _leave():
    Path("left").touch()


def _raise():
    raise ValueError("what users should not see")


WORK = {
    "an answer": (lambda: print("right"), "correct"),
    "an error": (_error, "clean error"),
    "an exception": (_raise, "traceback"),
    "an unexpected error": (lambda: _error("error: unexpected TypeError: x", 1), "traceback"),
    "a line of a library": (lambda: _error("TIFFReadDirectory: odd\nerror: x"), "traceback"),
    "an error without a message": (lambda: sys.exit(2), "traceback"),
    "a message without an error": (lambda: _error(status=0), "traceback"),
    "a message that is too long": (lambda: _error("error: " + "x" * 10_000), "traceback"),
    "a control character": (lambda: print("\x1b[31mright"), "traceback"),
    "a signal": (_segfault, "crash"),
    "being killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "crash"),
    "too much memory": (_grow, "crash"),
    "no end": (lambda: time.sleep(60), "hang"),
    "no end in a loop": (_loop, "hang"),
    "a file left behind": (_leave, "silently wrong"),
    "a lie": (lambda: print("wrong"), "silently wrong"),
}


@pytest.mark.parametrize("name", WORK)
def test_every_outcome_is_noticed(name, tmp_path):
    work, expected = WORK[name]
    folder = tmp_path / "work"
    folder.mkdir()
    case = Case(name, (), lambda outcome: None if outcome.status or outcome.stdout == "right\n" else "a lie", work)
    outcome = sandbox.run(work, folder, LIMITS if expected == "hang" else PATIENT)
    assert verdict(case, outcome, lambda: server.judged(case, outcome))[0] == expected


def test_what_a_process_has_started_ends_with_it(tmp_path):
    (tmp_path / "work").mkdir()
    marker = f"sleep {os.getpid()}.5"
    outcome = sandbox.run(lambda: os.system(f"{marker} & echo started"), tmp_path / "work", LIMITS)
    assert outcome.stdout == "started\n"
    time.sleep(0.1)
    assert marker not in os.popen("ps -eo args").read()


def test_a_judge_that_fails_is_noticed(tmp_path):
    (tmp_path / "work").mkdir()

    def judge(outcome):
        raise KeyError("x")

    case = Case("", (), judge, apart=True)
    outcome = sandbox.run(lambda: None, tmp_path / "work", LIMITS)
    assert verdict(case, outcome, lambda: server.judged(case, outcome)) == (
        "silently wrong",
        "the judge failed: KeyError: 'x'",
    )


class RefusedError(Exception):
    """What the export raises in its place."""


@pytest.mark.parametrize(("found", "ends"), [(exports.NOT_FINITE, RefusedError), (None, SystemExit), ("x", SystemExit)])
def test_of_logits_that_are_not_finite_the_export_itself_says_whether_they_are_taken(
    found, ends, tmp_path, monkeypatch
):
    """What was read rightly is no more than that: the export goes on, and what comes of it is judged."""
    stages = []

    def export_model(backbone, progress):
        for stage in ("tracing", "comparing"):
            progress(stage)
            stages.append(stage)
        raise RefusedError

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(package, "export_model", export_model)
    monkeypatch.setattr(cli, "app", lambda arguments: package.export_model("backbone", progress=print))
    with pytest.raises(ends):
        exports.export_until_read((), lambda backbone: found)()
    assert stages == (["tracing", "comparing"] if ends is RefusedError else [])
    case = Case("", (), checkpoints.judge)
    for status, files, expected in (
        (2, (), "clean error"),
        (0, (), "silently wrong" if found else "correct"),
        (0, ("out.onnx",), "silently wrong"),
    ):
        outcome = Outcome(tmp_path / "work", status, "out.onnx\n", "error: no\n" if status else "", new_files=files)
        assert verdict(case, outcome, lambda outcome=outcome: case.judge(outcome))[0] == expected


def test_a_model_of_transformers_without_finite_logits_is_told_from_a_wrong_one(tmp_path):
    from tests.helpers.transformers_models import CLASSIFIERS, save

    model = save(tmp_path, "vit", *CLASSIFIERS["vit"])
    right = load_backbone(f"hf/{tmp_path}")
    assert folders_of_transformers.inspect(right, tmp_path) is None
    with torch.no_grad():
        model.classifier.weight.mul_(1e30)
        model.vit.layernorm.weight.mul_(1e30)
    model.save_pretrained(tmp_path)
    infinite = load_backbone(f"hf/{tmp_path}")
    assert folders_of_transformers.inspect(infinite, tmp_path) == exports.NOT_FINITE
    assert "transformers gives" in folders_of_transformers.inspect(right, tmp_path)
    with pytest.raises(OnnxplainError, match="logits for an image of noise are NaN or infinite"):
        export_model(infinite, tmp_path / "out.onnx")


def test_the_table_counts_and_names(capsys):
    from rich.console import Console

    results = [
        {
            "kind": kind,
            "number": number,
            "verdict": name,
            "why": "w",
            "about": "a",
            "arguments": ["explain"],
            "seconds": 1,
        }
        for kind in ("artifacts", "folders")
        for number, name in enumerate(VERDICTS)
    ]
    assert {item["verdict"] for item in report.bad(results)} == set(BAD) and len(report.bad(results)) == 8
    report.show(Console(width=200), results, 7)
    printed = capsys.readouterr().out
    assert "--seed 7 --case folders:4 --keep FOLDER" in printed and "--case folders:1 " not in printed
    assert "".join(printed.splitlines()[-2].split()) == "│all│2│2│2│2│2│2│12│"


def test_a_case_is_the_same_each_time(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    from tests.fuzz import pictures

    pictures.prepare(base)
    for number in range(20):
        made = []
        for attempt in "ab":
            folder = tmp_path / f"{number}{attempt}"
            folder.mkdir()
            case, _ = server.case_of("pictures", number, 3, base, folder)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            made.append((case.about, case.arguments, files))
        assert made[0] == made[1]
