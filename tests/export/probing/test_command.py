"""The command `probe`: what it prints and writes, and the mistakes that it answers in one line."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.export import load_backbone, probe, read_head, split_images
from onnxplain.runtime import Explainer, OnnxplainError, load_image, preprocess
from tests.helpers.command_line import contents
from tests.helpers.digits import NAMES, TIMM


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="onnxplain")


def test_from_images_to_a_heatmap(own):
    """The accuracy told is that of the file, on the pictures held out, by the model that export puts it on."""
    for name in ("0.png", "1.png", "2.png", "3.png"):  # wrong labels, so that not all can be right
        first, second = own / "one" / name, own / "two" / name
        pictures = first.read_bytes(), second.read_bytes()
        first.write_bytes(pictures[1])
        second.write_bytes(pictures[0])
    done = run("probe", "--model", "demo", "--data", own, "--seed", 2, "--output", "new/head.safetensors")
    assert done.exit_code == 0 and done.stderr == "", done.output
    backbone, held_out = load_backbone("demo", head="new/head.safetensors"), split_images(own, seed=2).held_out.paths
    assert backbone.labels == tuple(sorted(NAMES))
    pixels = np.stack([preprocess(load_image(path), backbone.preprocessing)[0] for path in held_out])
    with torch.inference_mode():
        answers = backbone.model(torch.from_numpy(pixels)).argmax(1)
    right = [backbone.labels[answer] == path.parent.name for answer, path in zip(answers, held_out, strict=True)]
    assert len(right) == 12 and 8 <= sum(right) < 12  # three would be chance
    (printed,) = re.findall(r"held-out accuracy with C = \S+: (\S+)%, (\d+) of 12; .* 25.0%", done.stdout)
    assert printed == (f"{100 * np.mean(right):.1f}", str(sum(right)))
    for name in NAMES:
        share = np.mean([one for one, path in zip(right, held_out, strict=True) if path.parent.name == name])
        assert re.search(rf"^{name} +3 +{100 * share:.1f}%$", done.stdout, re.MULTILINE)
    assert "try: onnxplain export --model demo --head new/head.safetensors" in done.stdout

    done = run(
        "export", "--model", "demo", "--head", "new/head.safetensors", "--output", "d.onnx", "--passes", "gradient"
    )
    assert done.exit_code == 0, done.output
    picture = held_out[right.index(True)]
    done = run("explain", "d.onnx", picture, "--output", "maps")
    assert done.exit_code == 0 and len(list(Path("maps").iterdir())) == 1, done.output
    result = Explainer("d.onnx").explain(picture)
    assert result.label == picture.parent.name
    y, x = np.unravel_index(result.heatmap.argmax(), result.heatmap.shape)
    assert 28 <= x < 68 and 28 <= y < 68  # where the digit is


def test_a_test_folder(own):
    for name in NAMES:
        Path("test", name).mkdir(parents=True)
        for path in sorted((own / name).iterdir())[:5]:
            path.rename(Path("test", name, path.name))
    done = run("probe", "--model", "demo", "--data", own, "--test", "test", "--output", "h.safetensors", "--C", 0.1)
    assert done.exit_code == 0, done.output
    assert "60 images of 4 classes: 40 to fit on, 20 held out; features of 60 computed" in done.stdout
    assert re.search(r"held-out accuracy with C = 0.1: \S+%, \d+ of 20;", done.stdout)
    assert "also among" not in done.stdout


def test_the_model_is_repeated_in_what_to_try(own):
    options = ["--model", f"timm/{TIMM}", "--random-init", "--image-size", 32]
    done = run("probe", *options, "--data", own, "--head-pooling", "mean", "--output", "h.safetensors", "--C", 1)
    assert done.exit_code == 0, done.output
    expected = f"try: onnxplain export --model timm/{TIMM} --image-size 32 --random-init --head h.safetensors"
    assert expected in done.stdout and read_head("h.safetensors").pooling == "mean"


# --- mistakes


def _write(path, content=b"hello"):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)


def _few(own):
    for path in sorted((own / "two").iterdir())[2:]:
        path.unlink()


def _another_class(own):
    shutil.copytree(own, "test")
    Path("test", "one").rename("test/eleven")


MISTAKES = {
    "no folder": (lambda own: shutil.rmtree(own), (), "there is no folder data; it must hold one folder for each"),
    "no classes": (lambda own: [shutil.rmtree(own / name) for name in NAMES], (), "there are no folders in data; it"),
    "one class": (lambda own: [shutil.rmtree(own / name) for name in NAMES[1:]], (), "data has one class, zero; a"),
    "no pictures": (lambda own: _write(own / "five" / "a.txt"), (), "there are no images in data/five; they"),
    "few pictures": (_few, (), "images of class two in data: 2, without those held out 1; at least 2 are needed"),
    "few are left": (None, ("--held-out", 0.95), "images of class one in data: 15, without those held out 1;"),
    "nothing held out": (None, ("--held-out", 0), "--held-out is a share between 0 and 1, got 0"),
    "all held out": (None, ("--held-out", 1), "--held-out is a share between 0 and 1, got 1"),
    "both": (None, ("--test", "data", "--held-out", 0.5), "--test and --held-out exclude each other"),
    "other classes": (_another_class, ("--test", "test"), "only in one of them: eleven, one"),
    "C": (None, ("--C", 0), "--C must be a positive number, got 0"),
    "C that is none": (None, ("--C", "nan"), "--C must be a positive number, got nan"),
    "suffix": (None, ("--output", "head.pth"), "--output must end in .safetensors, got head.pth"),
    "an output that exists": (lambda own: _write(Path("head.safetensors")), (), "head.safetensors exists; give"),
    "an output in no folder": (None, ("--output", "data/one/0.png/h.safetensors"), "cannot write into data/one/0.png"),
    "a cache in no folder": (None, ("--cache", "data/one/0.png/c"), "it is not a folder; give another --cache"),
    "a cache that is none": (lambda own: _write(Path("c")), ("--cache", "c"), "c is no cache of features; give"),
    "the head as cache": (None, ("--cache", "./head.safetensors"), "the head and the cache cannot both be"),
    "pooling": (None, ("--head-pooling", "max"), "a head reads: one of cls, mean, cls+mean, own, got 'max'"),
    "demo untrained": (None, ("--random-init",), "image size and preprocessing cannot be changed"),
    "unknown model": (None, ("--model", "demon"), "there is no model 'demon'; did you mean 'demo'"),
}  # fmt: skip


def test_a_classifier_has_no_features(own):
    with pytest.raises(OnnxplainError, match="demo gives classes: use load_features"):
        probe(load_backbone("demo"), split_images(own), "head.safetensors")


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_no_head_is_written(case, own):
    change, options, message = MISTAKES[case]
    if change is not None:
        change(own)
    before = contents()
    done = run("probe", "--model", "demo", "--data", own, "--output", "head.safetensors", *options)
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2 and line.startswith("error: ") and message in line, done.output
    assert contents() == before


def test_without_scikit_learn(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = run("probe", "--model", "demo", "--data", own, "--output", "head.safetensors")
    assert done.exit_code == 2 and "probing needs sklearn: pip install 'onnxplain[probe]'" in done.stderr
    assert done.stderr.count("\n") == 1 and not Path("head.features.safetensors").exists()
