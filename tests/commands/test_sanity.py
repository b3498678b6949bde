"""The command sanity: what it prints and writes, and the mistakes that it answers in one line."""

import csv
import re
from pathlib import Path

import pytest

from tests.helpers.command_line import assert_mistake, random_image, run


def test_what_is_printed_and_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("zero", "one"):
        Path("data", label).mkdir(parents=True)
        random_image(len(label)).save(Path("data", label, "good.png"))
    Path("data", "one", "text.png").write_text("hello")
    arguments = "--limit", 3, "--draws", 1, "--methods", "rollout,attnlrp", "--seed", 1, "--output", "new/folder"
    done = run("sanity", "--model", "demo", "data", *arguments)
    assert done.exit_code == 2 and re.search(r"^error: one/text.png: .*text.png", done.stderr, re.MULTILINE), (
        done.output
    )
    assert "demo, 2 images, 1 draw of all weights" in done.stdout and "wrote sanity.csv, sanity.svg" in done.stdout
    for method in ("rollout", "attnlrp"):
        assert re.search(rf"^{method} .*\] +(yes|no|cannot be told) *$", done.stdout, re.MULTILINE)
    rows = list(csv.DictReader(Path("new/folder/sanity.csv").read_text().splitlines()))
    steps = list(dict.fromkeys(row["step"] for row in rows))
    assert steps == ["head", *(f"blocks.{number}" for number in range(5, -1, -1)), "embedding"]
    assert {row["image"] for row in rows} == {"zero/good.png", "one/good.png"}
    assert Path("new/folder/sanity.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "demmo", "demo"), "demmo"),
        (("--model", "demo", "nothing"), "nothing"),
        (("--model", "demo", "demo", "--methods", "rolout"), "there is no method 'rolout'"),
        (("--model", "demo", "demo", "--device", "tpu"), "there is no device 'tpu'"),
        (("--model", "timm/test_vit", "--random-init", "demo"), "the demo's scenes show the digits"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_mistake(message, "sanity", *arguments)
    assert not list(Path().iterdir())
