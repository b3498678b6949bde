"""Linear probing: the head that is fitted, what is said of it, the features that are kept, and the way to a heatmap."""

import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from onnxplain.export import Head, load_backbone, load_features, probe, read_head, split_images
from onnxplain.runtime import load_image, preprocess
from tests.helpers.digits import NAMES, SMALL, TIMM, keep_two_classes


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
        keep_two_classes(own)
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


def test_what_is_taken_for_an_image(own):
    (own / "one" / "deeper").mkdir()
    (own / "one" / "0.png").rename(own / "one" / "deeper" / "0.PNG")
    (own / "one" / ".1.png").touch()
    (own / "one" / "notes.txt").touch()
    (own / ".cache").mkdir()
    (own / "loose.png").touch()
    split = split_images(own)
    paths = (*split.fitted.paths, *split.held_out.paths)
    assert len(paths) == 60 and own / "one" / "deeper" / "0.PNG" in paths


def test_images_in_both_parts_are_told(own):
    split = split_images(own)
    shutil.copy(split.fitted.paths[0], split.held_out.paths[0])
    assert probe(load_features("demo"), split, "head.safetensors", C=1).repeated == 1
