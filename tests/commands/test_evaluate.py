"""The command evaluate: its tables and files, interruption, bad data, and what it refuses."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation import METRICS
from tests.helpers.command_line import assert_mistake, random_image, run

CHOICE = ("--methods", "rollout,gradient", "--metrics", "perturbation_positive,mass")
LABELS = ("Dog", "tiger cat")
SIZE = (60, 40)


@pytest.fixture
def data(folder):
    """Six images of two classes, with masks."""
    for place in range(6):
        label = LABELS[place % 2]
        for kind, image in (("images", random_image(place)), ("masks", Image.new("L", SIZE))):
            path = Path("data", kind, label, f"{place}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "masks":
                image.paste(1, (10, 5, 40, 30))
            image.save(path)
    return Path("data")


def rows(file="report/results.csv"):
    with Path(file).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_it_prints_tables_and_writes_a_report(artifact, data):
    result = run("evaluate", artifact, data, *CHOICE)
    assert result.exit_code == 0 and not result.stderr, result.output
    for text in ("all images (6)", "rollout", "other_class", "gaussian", "perturbation_positive", "evaluated 6 images"):
        assert text in result.stdout
    written = {path.name for path in Path("report").iterdir()}
    assert written == {"results.jsonl", "results.csv", "table.csv", "comparisons.csv", "report.html", "plots"}
    found = rows()
    assert list(found[0])[:5] == ["image", "target", "method", "metric", "value"]
    assert {row["image"] for row in found} == {f"{LABELS[n % 2]}/{n}.png" for n in range(6)}
    assert {row["metric"] for row in found} == {"perturbation_positive", "mass"}
    assert {row["method"] for row in found} >= {"rollout", "gradient", "random", "constant", "gaussian"}


def test_all_methods_and_default_metrics_by_name(artifact, data):
    result = run("evaluate", artifact, data, "--methods", "rollout", "--metrics", "default", "--limit", "2", "--quiet")
    assert result.exit_code == 0 and not result.output
    assert {row["metric"] for row in rows() if row["method"] == "rollout"} == {
        row.name for row in METRICS.values() if row.default and "other" not in row.needs
    }


def test_more_images_are_added_to_those_that_are_done(artifact, data):
    run("evaluate", artifact, data, *CHOICE, "--limit", "2")
    first = Path("report/results.jsonl").read_text()
    assert run("evaluate", artifact, data, *CHOICE).exit_code == 0
    assert Path("report/results.jsonl").read_text().startswith(first) and len({r["image"] for r in rows()}) == 6
    assert_mistake(
        "holds results of another evaluation, with other seed", "evaluate", artifact, data, *CHOICE, "--seed", 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_started_again_it_computes_nothing_twice(artifact, data, jobs):
    command = [
        sys.executable,
        "-m",
        "onnxplain.cli",
        "evaluate",
        str(artifact),
        str(data),
        *CHOICE,
        "--jobs",
        str(jobs),
    ]
    run("evaluate", artifact, data, *CHOICE, "--output", "whole")
    kept = Path("report/results.jsonl")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while not (kept.exists() and kept.read_text().count('"name"') >= 2):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = [line for line in kept.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert 2 <= len([line for line in done if '"name"' in line]) < 6
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and not again.stderr
    lines = kept.read_text().splitlines(keepends=True)
    assert lines[: len(done)] == done  # kept as they were
    pictures = [item["name"] for item in map(json.loads, lines) if "name" in item]
    assert len(pictures) == len(set(pictures)) == 6
    assert rows("report/results.csv") == rows("whole/results.csv")


@pytest.mark.slow
def test_its_processes_end_when_the_one_that_started_them_is_killed(artifact, data):
    command = [sys.executable, "-m", "onnxplain.cli", "evaluate", str(artifact), str(data), *CHOICE, "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    kept = Path("report/results.jsonl")
    while not (kept.exists() and '"name"' in kept.read_text()):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.killpg(process.pid, 0)  # raises if none of them is left
            time.sleep(0.1)


def test_an_interruption_says_how_to_go_on(artifact, data, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxplain.evaluation.runner.evaluate_image", interrupted)
    result = run("evaluate", artifact, data, *CHOICE)
    assert result.exit_code == 130 and result.stderr == "error: interrupted; the same command goes on where it was\n"


def test_images_and_masks_that_cannot_be_read_have_one_line_each(artifact, data):
    Path(data, "images/Dog/0.png").write_bytes(b"no image")
    Image.new("L", (3, 3)).save(Path(data, "masks/tiger cat/1.png"))
    Path(data, "images/unicorn").mkdir()
    random_image(9).save(Path(data, "images/unicorn/9.png"))
    result = run("evaluate", artifact, data, *CHOICE)
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert len(lines) == 3 and sum("Dog/0.png" in line for line in lines) == 1
    assert sum("tiger cat/1.png" in line for line in lines) == 1 and sum("unicorn" in line for line in lines) == 1
    assert {row["image"] for row in rows()} == {f"{LABELS[n % 2]}/{n}.png" for n in range(2, 6)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "rolout"), "there is no method 'rolout'"),
        (("--metrics", "area"), "there is no metric 'area'"),
        (("--target", "top"), "there is no target 'top'"),
        (("--baseline", "grey"), "there is no baseline 'grey'"),
        (("--device", "tpu"), "device"),
        (("--output", "cat.png"), "cannot write into cat.png"),
    ],
)
def test_an_option_that_is_not_valid_is_refused(artifact, data, arguments, message):
    assert_mistake(message, "evaluate", artifact, data, *arguments)


@pytest.mark.parametrize("place", ["nowhere", "empty", "cat.png"])
def test_data_that_is_none_is_refused(artifact, folder, place):
    assert_mistake(place, "evaluate", artifact, place)


def test_metrics_are_listed():
    result = run("metrics")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in METRICS)


def test_images_without_classes_are_evaluated_for_the_predicted_class(artifact, folder):
    choice = (artifact, "pictures", "--methods", "rollout", "--metrics", "mass,sparseness")
    result = run("evaluate", *choice)
    assert result.exit_code == 2 and "explain the predicted class with --target predicted\n" in result.stderr
    result = run("evaluate", *choice, "--target", "predicted")  # into the same folder, where nothing was measured
    assert result.exit_code == 0 and not result.stderr, result.output
    assert "not measured: mass (no image has a mask or box of its class)" in result.stdout
    assert {row["image"] for row in rows()} == {"a.png", "b.webp", "c.JPG"}


def test_a_missing_scipy_is_told_before_any_work(artifact, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    assert_mistake("noisy-linear needs scipy", "evaluate", artifact, data, "--metrics", "road")
    assert not Path("report").exists()


def test_a_file_that_is_a_program_is_opened_if_it_is_trusted_and_not_packed(data, monkeypatch):
    seen = []

    def opened(*arguments, **options):
        seen.append((arguments[0].suffix, options["trust"], options["packed"]))
        raise OnnxplainError("enough")

    monkeypatch.setattr("onnxplain.runtime.Explainer", opened)
    assert_mistake("enough", "evaluate", "model.pt", data)
    assert_mistake("enough", "evaluate", "model.pt", data, "--trust")
    assert_mistake("enough", "evaluate", "model.onnx", data)
    assert seen == [(".pt", False, False), (".pt", True, False), (".onnx", False, True)]
