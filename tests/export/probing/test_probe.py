"""Linear probing: the head that is fitted, what is said of it, the features that are kept, and the way to a heatmap."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.export import Head, load_backbone, load_features, probe, read_head, split_images
from onnxplain.export.probing.feature_cache import BATCH
from onnxplain.runtime import Explainer, OnnxplainError, load_image, preprocess

TIMM = "vit_tiny_patch16_224"
SMALL = {"random_init": True, "image_size": 32}
NAMES = ("zero", "one", "two", "three")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder of 15 handwritten digits of each of four classes, in the middle of pictures of 96 pixels."""
    folder = tmp_path_factory.mktemp("digits")
    pictures, classes = load_digits(return_X_y=True)
    for index, name in enumerate(NAMES):
        (folder / name).mkdir()
        for number, digit in enumerate(pictures[classes == index][:15]):
            picture = Image.fromarray(np.minimum(digit.reshape(8, 8) * 16, 255).astype(np.uint8))
            canvas = Image.new("RGB", (96, 96))
            canvas.paste(picture.resize((40, 40), Image.Resampling.BICUBIC), (28, 28))
            canvas.save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def own(digits, tmp_path, monkeypatch):
    """A copy that a test may change, as ``data`` in the working directory."""
    shutil.copytree(digits, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return Path("data")


def _two_classes(folder):
    for name in NAMES[2:]:
        shutil.rmtree(folder / name)


def _theirs(paths):
    """The same network from timm itself, with its own transform: class tokens [pictures, width] in float64."""
    model = timm.create_model(TIMM, img_size=32, num_classes=0)
    model.load_state_dict(load_features(f"timm/{TIMM}", **SMALL).model.features.state_dict())
    transform = create_transform(**resolve_model_data_config(model) | {"input_size": (3, 32, 32)}, is_training=False)
    with torch.inference_mode():
        tokens = model.eval().forward_features(torch.stack([transform(Image.open(path)) for path in paths]))
    return tokens[:, 0].double().numpy()


def _standardised(features, fitted):
    norm = nn.BatchNorm1d(fitted.shape[1], eps=1e-6, affine=False, momentum=None).double().train()
    norm(torch.from_numpy(fitted))  # one batch, so that its statistics are those of all
    norm.running_var *= (len(fitted) - 1) / len(fitted)  # of which it keeps the unbiased variance
    return norm.eval()(torch.from_numpy(features)).numpy()


# --- the head


@pytest.mark.parametrize("classes", [4, 2])
def test_the_head_is_a_logistic_regression_on_standardised_features(classes, own):
    if classes == 2:
        _two_classes(own)
    split = split_images(own)
    report = probe(load_features(f"timm/{TIMM}", **SMALL), split, "head.safetensors", C=0.03)
    fitted, held_out = _theirs(split.fitted.paths), _theirs(split.held_out.paths)
    regression = LogisticRegression(C=0.03, max_iter=5000, tol=1e-6)
    regression.fit(_standardised(fitted, fitted), split.fitted.classes)
    expected = regression.decision_function(_standardised(held_out, fitted))
    backbone = load_backbone(f"timm/{TIMM}", **SMALL, head="head.safetensors")
    pixels = [preprocess(load_image(path), backbone.preprocessing)[0] for path in split.held_out.paths]
    with torch.inference_mode():
        logits = backbone.model(torch.from_numpy(np.stack(pixels))).numpy()
    given = logits if classes == 4 else logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(given, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    assert backbone.labels == tuple(sorted(NAMES[:classes])) and backbone.activation == "softmax"
    assert report.C == 0.03 and report.tried == {} and report.fitted == 12 * classes and report.computed == 15 * classes
    head = read_head("head.safetensors")
    assert head.pooling == "own"
    np.testing.assert_allclose(head.mean, fitted.mean(0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(head.std, np.sqrt(fitted.var(0) + 1e-6), rtol=1e-3)


def test_the_strength_is_chosen_by_cross_validation(own):
    rng = np.random.default_rng(0)
    for path in own.rglob("*.png"):  # hard to tell apart, so that there is something to choose
        noisy = np.asarray(Image.open(path)) + rng.normal(0, 150, (96, 96, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    split = split_images(own)
    report = probe(load_features(f"timm/{TIMM}", **SMALL), split, "head.safetensors")
    features, classes = _theirs(split.fitted.paths), np.array(split.fitted.classes)
    features, accuracies = _standardised(features, features), {}
    for C in report.tried:
        right = []
        for rows, others in StratifiedKFold(3, shuffle=True, random_state=0).split(features, classes):
            regression = LogisticRegression(C=C, max_iter=5000).fit(features[rows], classes[rows])
            right.append((regression.predict(features[others]) == classes[others]).mean())
        accuracies[C] = np.mean(right)
    assert len(set(report.tried.values())) > 1
    assert report.tried == pytest.approx(accuracies, abs=0.03)  # one borderline picture of 48 may fall otherwise
    best = max(report.tried.values())
    assert min(C for C, accuracy in report.tried.items() if accuracy == best) == report.C


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean", "own"])
def test_features_are_what_the_head_of_that_pooling_reads(pooling):
    features = load_features(f"timm/{TIMM}", **SMALL, head_pooling=pooling)
    assert features.pooling == pooling
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        given = features.model(pixels)
        head = Head(torch.randn(3, given.shape[1]), pooling=pooling)
        expected = load_backbone(f"timm/{TIMM}", **SMALL, head=head).model(pixels)
    torch.testing.assert_close(given @ head.weight.T, expected)


def test_what_suits_a_model():
    """MAE's linear probing reads the class token, which is what timm's MAE gives; DINOv2's the mean patch as well."""
    small = {"random_init": True, "image_size": 28}
    assert load_features("dinov2-small", **small).pooling == "cls+mean"
    own, cls = (load_features("mae", random_init=True, image_size=32, head_pooling=name) for name in (None, "cls"))
    assert own.pooling == "own"
    with torch.inference_mode():
        assert torch.equal(*(one.model(torch.ones(1, 3, 32, 32)) for one in (own, cls)))


def test_a_head_on_the_demo_model():
    backbone, whole = load_backbone("demo", head=Head(torch.eye(128))), load_backbone("demo")
    pixels = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        features = backbone.model(pixels)
        torch.testing.assert_close(whole.model.head(features), whole.model(pixels))
    assert backbone.activation == "softmax" and whole.activation == "sigmoid"
    assert len(backbone.labels) == 128 and backbone.sha256 == whole.sha256


# --- the split


def test_a_split_holds_out_a_share_of_each_class(digits):
    split, again, other = (split_images(digits, held_out=0.3, seed=seed) for seed in (0, 0, 1))
    assert split == again and set(split.held_out.paths) != set(other.held_out.paths)
    assert split.labels == tuple(sorted(NAMES))
    for part, count in ((split.fitted, 11), (split.held_out, 4)):
        assert np.bincount(part.classes).tolist() == [count] * 4
        assert [split.labels[index] for index in part.classes] == [path.parent.name for path in part.paths]
    assert sorted((*split.fitted.paths, *split.held_out.paths)) == sorted(digits.rglob("*.png"))


def test_what_is_taken_for_a_picture(own):
    (own / "one" / "deeper").mkdir()
    (own / "one" / "0.png").rename(own / "one" / "deeper" / "0.PNG")
    (own / "one" / ".1.png").touch()
    (own / "one" / "notes.txt").touch()
    (own / ".cache").mkdir()
    (own / "loose.png").touch()
    split = split_images(own)
    paths = (*split.fitted.paths, *split.held_out.paths)
    assert len(paths) == 60 and own / "one" / "deeper" / "0.PNG" in paths


def test_pictures_in_both_parts_are_told(own):
    split = split_images(own)
    shutil.copy(split.fitted.paths[0], split.held_out.paths[0])
    assert probe(load_features("demo"), split, "head.safetensors", C=1).repeated == 1


# --- the features kept


@pytest.fixture
def counted():
    """Features of a model, and how many pictures each of its runs had."""
    runs = []

    def load(*arguments, **options):
        runs.clear()
        features = load_features(*arguments, **options)
        features.model.register_forward_hook(lambda module, given, result: runs.append(len(given[0])))
        return features

    return load, runs


def _probe(features, own, **options):
    return probe(features, split_images(own), "head.safetensors", **{"C": 1} | options)


def test_features_are_computed_once(own, counted):
    load, runs = counted
    first = _probe(load("demo"), own)
    assert sum(runs) == 1 + 60 and max(runs) <= BATCH and first.computed == 60  # one more, the picture of noise
    weight = read_head("head.safetensors").weight
    assert _probe(load("demo"), own).computed == 0 and runs == [1]
    assert torch.equal(read_head("head.safetensors").weight, weight)
    assert _probe(load("demo"), own, C=0.001).computed == 0 and runs == [1]
    assert not torch.allclose(read_head("head.safetensors").weight, weight)
    again = probe(load("demo"), split_images(own, held_out=0.4, seed=3), "head.safetensors", C=1)
    assert again.computed == 0 and runs == [1]
    assert sorted(path.name for path in Path().iterdir()) == ["data", "head.features.safetensors", "head.safetensors"]


def test_a_changed_picture_is_looked_at_again(own, counted):
    load, runs = counted
    _probe(load("demo"), own, cache="kept.safetensors")
    changed = own / "one" / "3.png"
    with Image.open(changed) as picture:
        picture.rotate(90).save(changed)
    assert _probe(load("demo"), own, cache="kept.safetensors").computed == 1 and runs == [1, 1]
    partly = read_head("head.safetensors").linear()
    _probe(load("demo"), own)  # with another cache, so all anew
    assert sum(runs) == 61
    torch.testing.assert_close(read_head("head.safetensors").linear().weight, partly.weight)


OTHER = {
    "weights": {"name": "timm/deit_tiny_patch16_224"},
    "size": {"image_size": 48},
    "pooling": {"head_pooling": "mean"},
}


@pytest.mark.parametrize("other", OTHER)
def test_features_of_another_model_are_not_used(other, own, counted):
    load, runs = counted
    given = {"name": f"timm/{TIMM}", **SMALL}
    _probe(load(**given), own)
    assert _probe(load(**given | OTHER[other]), own).computed == 60 and sum(runs) == 61


def test_features_of_a_model_that_differs_in_what_weights_do_not_tell_are_not_used(own, counted):
    load, _ = counted
    features = load("demo")
    _probe(features, own)
    for block in features.model.features.blocks:
        block.attn.num_heads, block.attn.head_dim = 2, 64
    assert _probe(features, own).computed == 60


def test_interrupted_work_is_kept(own, counted):
    def interrupt(stage, done, total):
        assert total == 60
        if done == BATCH + 1:
            raise KeyboardInterrupt

    load, runs = counted
    with pytest.raises(KeyboardInterrupt):
        _probe(load("demo"), own, progress=interrupt)
    assert not Path("head.safetensors").exists() and runs == [1, BATCH]
    assert _probe(load("demo"), own).computed == 60 - BATCH


# --- the command line


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="onnxplain")


def test_from_pictures_to_a_heatmap(own):
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


def _contents():
    return {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_no_head_is_written(case, own):
    change, options, message = MISTAKES[case]
    if change is not None:
        change(own)
    before = _contents()
    done = run("probe", "--model", "demo", "--data", own, "--output", "head.safetensors", *options)
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2 and line.startswith("error: ") and message in line, done.output
    assert _contents() == before


def test_a_head_is_no_cache(own):
    """Another safetensors file than one of features is not overwritten either."""
    _probe(load_features("demo"), own)
    before = _contents()
    with pytest.raises(OnnxplainError, match=r"head\.safetensors is no cache of features"):
        probe(load_features("demo"), split_images(own), "other.safetensors", C=1, cache="head.safetensors")
    assert _contents() == before


def test_without_scikit_learn(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = run("probe", "--model", "demo", "--data", own, "--output", "head.safetensors")
    assert done.exit_code == 2 and "probing needs sklearn: pip install 'onnxplain[probe]'" in done.stderr
    assert done.stderr.count("\n") == 1 and not Path("head.features.safetensors").exists()


def test_features_that_are_not_finite(own):
    features = load_features("demo")
    features.model.features.norm.bias.data[0] = float("nan")
    with pytest.raises(OnnxplainError, match=r"features that demo gives of data/one/\d+.png are not finite"):
        _probe(features, own)
    assert not Path("head.safetensors").exists()
