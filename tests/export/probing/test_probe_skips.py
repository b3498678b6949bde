"""What probing makes of pictures that cannot be read, and of kept features that are damaged."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.commands.products import save_figure
from onnxplain.export import load_features, probe, read_head, split_images
from onnxplain.runtime import OnnxplainError

CACHE = Path("head.features.safetensors")


@pytest.fixture(scope="module")
def backbone():
    return load_features("demo")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Seven dark and seven bright pictures."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for brightness, name in enumerate(("dark", "bright")):
        Path("data", name).mkdir(parents=True)
        for number in range(7):
            values = rng.integers(100 * brightness, 100 * brightness + 100, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(values).save(Path("data", name, f"{number}.png"))
    return Path("data")


def _spoil(path):
    path.write_bytes(path.read_bytes()[:100])


def _run(*arguments):
    return CliRunner().invoke(cli.app, ["probe", "--model", "demo", "--C", "1", *map(str, arguments)])


def test_the_head_is_that_of_the_others(backbone, data, tmp_path):
    split = split_images(data, held_out=0.3)  # two of each class
    bad = [split.fitted.paths[2], split.held_out.paths[0]]
    for path in bad:
        _spoil(path)
    report = probe(backbone, split, "head.safetensors", C=1)
    assert [message.startswith(str(path)) for message, path in zip(report.skipped, bad, strict=True)] == [True, True]
    assert report.fitted + sum(report.held_out) == report.computed == 12
    for part, pictures in (("rest", split.fitted), ("apart", split.held_out)):
        for path in pictures.paths:
            if path not in bad:
                target = tmp_path / part / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    expected = probe(backbone, split_images("rest", "apart"), "expected.safetensors", C=1)
    assert expected.skipped == () and expected.held_out == report.held_out and expected.correct == report.correct
    assert torch.equal(read_head("expected.safetensors").weight, read_head("head.safetensors").weight)


def test_the_command_line_names_them_at_the_end(data):
    for name in ("dark/1.png", "bright/5.png"):
        _spoil(data / name)
    Image.new("RGB", (20_000, 1)).save(data / "dark" / "2.png")
    done = _run("--data", data, "--output", "head.safetensors", "--held-out", "0.3")
    lines = sorted(done.stderr.splitlines())
    assert done.exit_code == 2 and len(lines) == 3 and Path("head.safetensors").exists()
    for line, name in zip(lines, ("bright/5.png", "dark/1.png", "dark/2.png"), strict=True):
        assert line.startswith((f"error: data/{name} ", f"error: data/{name}: "))
    assert "11 images of 2 classes" in done.stdout


def test_overlays_are_no_images_to_learn_from(data):
    for name in ("data/dark/explanations/0.png", "data/bright/0.png.demo.one.png", "data/explanations/0.png"):
        save_figure(Image.new("RGB", (24, 24)), "png", {}, Path(name).parent, Path(name).stem)
    done = _run("--data", data, "--output", "head.safetensors")
    assert done.exit_code == 0 and "14 images of 2 classes" in done.stdout
    assert "3 images that onnxplain made were skipped" in done.stdout


def test_a_folder_of_overlays_alone_holds_no_images(tmp_path):
    for name in "ab":
        save_figure(Image.new("RGB", (24, 24)), "png", {}, tmp_path / name, "0")
    with pytest.raises(OnnxplainError, match=f"there are no images in {tmp_path}/a, {tmp_path}/b; they would end in"):
        split_images(tmp_path)


def test_too_few_are_left_of_a_class(data):
    for number in range(6):
        _spoil(data / "bright" / f"{number}.png")
    done = _run("--data", data, "--output", "head.safetensors")
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2 and "of class bright that can be read: " in line, line
    assert "6 images cannot be read, such as: data/bright/" in line and "damaged" in line
    assert not Path("head.safetensors").exists()


def _other(change):
    """Write the kept features with something changed, and the digest of before."""
    with safe_open(CACHE, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in ("features", "sample")}
    change(metadata, tensors)
    save_file(tensors, CACHE, metadata)


def test_a_flipped_bit_of_a_kept_feature_is_noticed(backbone, data):
    split = split_images(data)
    probe(backbone, split, "head.safetensors", C=1)
    kept = CACHE.read_bytes()
    header = int.from_bytes(kept[:8], "little")
    for place in (8 + header, kept.index(b'"images":"[\\"') + 20):  # a number's last digits, and a checksum
        changed = bytearray(kept)
        changed[place] ^= 1
        CACHE.write_bytes(changed)
        with pytest.raises(OnnxplainError, match=r"head\.features\.safetensors is damaged; give another `cache`"):
            probe(backbone, split, "head.safetensors", C=1)
    CACHE.write_bytes(kept)
    assert probe(backbone, split, "head.safetensors", C=1).computed == 0


def test_features_kept_by_another_version_are_computed_again(backbone, data):
    split = split_images(data)
    probe(backbone, split, "head.safetensors", C=1)
    _other(lambda metadata, tensors: metadata.update(onnxplain_features="1"))
    assert probe(backbone, split, "head.safetensors", C=1).computed == 14


def test_features_of_another_type_are_no_features(backbone, data):
    split = split_images(data)
    probe(backbone, split, "head.safetensors", C=1)
    kept = CACHE.read_bytes()
    _other(lambda metadata, tensors: tensors.update(features=tensors["features"].bfloat16()))
    with pytest.raises(OnnxplainError, match="is no cache of features"):
        probe(backbone, split, "head.safetensors", C=1)
    CACHE.write_bytes(kept)
    _other(lambda metadata, tensors: tensors.update(sample=tensors["sample"].bfloat16()))
    assert probe(backbone, split, "head.safetensors", C=1).computed == 14


def test_others_can_read_what_is_written(backbone, data):
    before = os.umask(0o022)
    try:
        probe(backbone, split_images(data), "head.safetensors", C=1)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (CACHE, Path("head.safetensors"))} == {0o644}
