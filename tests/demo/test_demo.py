"""The demo: scenes whose answers are known, the model trained on them, and the whole way from weights to a heatmap."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from sklearn.metrics import average_precision_score

from onnxplain.demo import ARTIFACT
from onnxplain.demo.model import architecture
from onnxplain.demo.samples import samples
from onnxplain.demo.scenes import SIZE, _digits, scene
from onnxplain.evaluation import evaluate, open_data
from onnxplain.export import load_backbone
from onnxplain.runtime import METHODS, Explainer
from onnxplain.runtime.methods.choice import Methods

ROOT = Path(__file__).parents[2]


def cli(folder: Path, *arguments: str) -> str:
    """What a command prints that is given in this folder, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, cwd=folder, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the first of the README's two commands."""
    folder = tmp_path_factory.mktemp("demo")
    assert "demo.onnx" in cli(folder, "export", "--model", "demo")
    return folder / "artifacts" / "demo.onnx"


def test_the_artifact_in_the_package_is_the_one_that_export_writes(artifact: Path) -> None:
    """But for the names of nodes, which differ from one version of PyTorch to the next, and what the gate measured."""
    advice = "make it anew: make demo-artifact"
    first, second = onnx.load(ARTIFACT), onnx.load(artifact)
    weights, others = ({one.name: one for one in model.graph.initializer} for model in (first, second))
    names = [name for name in architecture().state_dict() if name in weights]
    transposed = [f"{name}.T" for name in architecture().state_dict() if name not in names]
    assert len(names) > 60 and {*names, *transposed} <= set(weights) & set(others), advice
    for name in (*names, *transposed):
        assert np.array_equal(numpy_helper.to_array(weights[name]), numpy_helper.to_array(others[name])), advice
    ours, theirs = (Explainer(path, "cpu", threads=1) for path in (ARTIFACT, artifact))
    measured = {"parity": {}, "resolution": {}}
    assert replace(ours.metadata, **measured) == replace(theirs.metadata, **measured), advice
    for sample in samples():
        given, expected = (one.tensors(sample.path, list(sample.labels)) for one in (ours, theirs))
        assert list(given) == list(expected), advice
        for name, values in expected.items():
            limit = 0.05 if "relevance" in name else 1e-5  # relevance is what float32 makes of it
            assert np.abs(given[name] - values).max() <= limit * np.abs(values).max(), f"{name}: {advice}"


def test_a_scene_is_a_function_of_its_seed() -> None:
    first, again, other = scene(7), scene(7), scene(8)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.image, scene(7, "train").image)


@pytest.mark.parametrize("seed", range(20))
def test_a_scene_shows_different_digits_in_boxes_that_do_not_overlap(seed: int) -> None:
    drawn = scene(seed)
    assert drawn.image.shape == (SIZE, SIZE, 3) and drawn.image.dtype == np.uint8
    assert len(set(drawn.labels)) == len(drawn.labels) == len(drawn.boxes) and 2 <= len(drawn.labels) <= 3
    assert (drawn.boxes >= 0).all() and (drawn.boxes <= SIZE).all()
    for a, b in combinations(drawn.boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    # The digits are lighter than the clutter, so a box is lighter than what is outside all boxes.
    outside = np.ones((SIZE, SIZE), bool)
    for left, top, right, bottom in drawn.boxes:
        outside[top:bottom, left:right] = False
    for left, top, right, bottom in drawn.boxes:
        assert drawn.image[top:bottom, left:right].mean() > drawn.image[outside].mean() + 20


def test_no_handwritten_digit_is_in_both_splits() -> None:
    train, test = ({digit.tobytes() for kind in _digits(split) for digit in kind} for split in ("train", "test"))
    assert len(train) > 1000 and len(test) > 300 and not train & test


def test_the_images_in_the_package_are_scenes() -> None:
    for seed, sample in enumerate(samples()):
        drawn = scene(seed)
        assert np.array_equal(np.asarray(Image.open(sample.path)), drawn.image)
        assert sample.labels == drawn.labels and np.array_equal(sample.boxes, drawn.boxes)


def test_the_demo_model_knows_digits_it_never_saw() -> None:
    drawn = [scene(seed) for seed in range(20_000, 20_300)]
    pixels = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) / 127.5 - 1 for one in drawn])
    truth = np.array([[label in one.labels for label in range(10)] for one in drawn])
    with torch.inference_mode():
        logits = torch.cat([load_backbone("demo").model(part) for part in pixels.split(50)])
    assert average_precision_score(truth, logits.numpy()) >= 0.95


def measured(explainer: Explainer, scenes: int, methods: Methods) -> dict[tuple[str, str], float]:
    """The pointing game and the mass in the box of each method, and of the yardsticks."""
    metrics = ("pointing_game", "mass")
    results = evaluate(explainer, open_data("demo", explainer.metadata.labels, scenes), methods, metrics)
    parts: dict[tuple[str, str], list[float]] = defaultdict(list)
    for image in results.images:
        for _, method, metric, (value,) in image.measured:
            parts[method, metric].append(value)
    return {key: float(np.mean(values)) for key, values in parts.items()}


def test_maps_point_at_the_class_asked_for(artifact: Path) -> None:
    found = measured(Explainer(artifact), 100, ["transformer_attribution", "grad_rollout", "rollout"])
    for method in ("transformer_attribution", "grad_rollout"):
        assert found[method, "pointing_game"] >= 0.75
        assert found[method, "mass"] > found["rollout", "mass"] > found["constant", "mass"]
        assert found[f"other_class:{method}", "pointing_game"] < 0.2
    assert found["rollout", "pointing_game"] < 0.55  # it finds some digit, not the one asked for


def test_every_method_explains_each_image_and_class_by_itself(artifact: Path) -> None:
    explainer = Explainer(artifact)
    first, second = scene(10_000), scene(10_001)
    few = {"rise": {"masks": 20}}
    for name, method in METHODS.items():
        if method.missing:
            continue
        pair = list(explainer.explain_many([first.image, second.image], [1, -1], name, **few.get(name, {})))
        alone = explainer.explain(second.image, -1, name, **few.get(name, {}))
        assert pair[1][1].target == alone.target == alone.predictions[0][0]
        largest = np.abs(alone.heatmap).max()
        np.testing.assert_allclose(pair[1][1].heatmap, alone.heatmap, rtol=0, atol=1e-3 * largest, err_msg=name)
        for one in (*pair[0], *pair[1]):
            assert np.isfinite(one.heatmap).all() and np.ptp(one.heatmap) > 0 and one.tokens.shape == (12, 12), name
        assert np.array_equal(pair[0][0].heatmap, pair[0][1].heatmap) != method.per_target, name


@pytest.mark.slow
def test_integrated_gradients_add_up_to_the_difference_of_the_scores(artifact: Path) -> None:
    explainer = Explainer(artifact)
    picture = scene(10_000).image
    black = explainer.explain(np.zeros_like(picture), [3, 7], "rollout")
    for result, other in zip(explainer.explain(picture, [3, 7], "integrated_gradients", steps=128), black, strict=True):
        difference = result.score - other.score
        assert result.heatmap.sum() == pytest.approx(difference, rel=0.02, abs=0.02)
        assert result.tokens.sum() == pytest.approx(difference, rel=0.02, abs=0.02)


def test_smoothgrad_without_noise_is_the_gradient(artifact: Path) -> None:
    explainer = Explainer(artifact)
    smooth = explainer.explain(scene(10_000).image, 3, "smoothgrad", samples=2, noise=0)
    plain = explainer.explain(scene(10_000).image, 3, "gradient")
    np.testing.assert_allclose(smooth.heatmap, plain.heatmap, rtol=0, atol=1e-4 * np.abs(plain.heatmap).max())


@pytest.mark.slow
def test_rise_finds_the_class_asked_for(artifact: Path) -> None:
    found = measured(Explainer(artifact), 4, {"rise": {"masks": 200}})
    assert found["rise", "pointing_game"] >= 0.7 and found["other_class:rise", "pointing_game"] < 0.2


def test_the_two_commands_of_the_readme(artifact: Path) -> None:
    folder, sample = artifact.parents[1], samples()[0]
    printed = cli(folder, "explain", "artifacts/demo.onnx", str(sample.path), "--target", "seven", "--target", "5")
    (seven,) = folder.glob("explanations/scene-0.png.demo.*.seven.png")
    with Image.open(seven) as figure:
        assert min(figure.size) > 4 * SIZE  # the small picture is enlarged
    for label, index in (("seven", 7), ("five", 5)):  # beside the file names, which hold the labels too
        assert re.search(rf"^{label} \(class {index}\), score -?\d+\.\d{{3}}$", printed, re.MULTILINE)
    assert len(list(folder.glob("explanations/*.png"))) == 2
