"""What is wrong with the files of a transformers folder is said in one line, before a model is built from them."""

import json
import shutil
import time

import numpy as np
import pytest
import transformers
from PIL import Image

from onnxplain.export import export_model, load_backbone, load_features
from onnxplain.runtime import Explainer, OnnxplainError
from tests.helpers.real_image import randomise
from tests.helpers.transformers_models import CLASSIFIERS, NAMES, SMALL, SQUASHED, save

CONFIG = {
    "architectures": [[5], [None], [["ViTForImageClassification"]], ["iTForImageClassification"]],
    "id2label": [{"0": "cat", "2": "dog", "3": "crane"}, {"1": "cat"}, {"0": ["cat"]}, {"0": "cat", "-1": "dog"}],
    "num_hidden_layers": [10**7, 0, -1],
    "hidden_size": [10**9],
    "intermediate_size": [10**12],
    "num_attention_heads": [0],
    "num_channels": [1],
    "image_size": [0, 10**7],
    "patch_size": [0, 10**7],
}
PROCESSOR = {
    "size": [
        {"height": [42], "width": 42}, {"height": "42", "width": "42"}, {"height": 42}, {"shortest_edge": 0},
        {"shortest_edge": 48, "longest_edge": 60},
    ],
    "crop_size": [{"height": 42}, {"height": 10**400, "width": 42}, {"height": 42, "width": 56}],
    "resample": [None, "bicubic", 9, -1, [3], True],
    "rescale_factor": ["x", [1]],
    "image_mean": [[0.5], 0.5, ["a", "b", "c"], {"a": 1}],
    "image_std": [[0.5, 0.5], "abc", [0, 0, 0]],
    "do_resize": ["yes", 1],
    "do_normalize": ["no"],
    "do_center_crop": [[True], False],
    "do_pad": [True],
}  # fmt: skip


def _rows(table):
    return [pytest.param(name, value, id=f"{name}-{str(value)[:20]}") for name in table for value in table[name]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for name in ("vit", "dinov2"):
        (folder / name).mkdir()
        save(folder / name, name, *CLASSIFIERS[name])
    return folder


def _refused(folder, file, name, value):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    started = time.monotonic()
    with pytest.raises(OnnxplainError) as caught:
        load_backbone(f"hf/{folder}")
    message = str(caught.value)
    assert file in message and "\n" not in message and len(message) < 500
    assert time.monotonic() - started < 5
    return message


@pytest.mark.parametrize(("name", "value"), _rows(CONFIG))
def test_configuration(name, value, saved, tmp_path):
    shutil.copytree(saved / "vit", tmp_path, dirs_exist_ok=True)
    assert name in _refused(tmp_path, "config.json", name, value) or name == "architectures"


@pytest.mark.parametrize(("name", "value"), _rows(PROCESSOR))
def test_processor(name, value, saved, tmp_path):
    shutil.copytree(saved / "dinov2", tmp_path, dirs_exist_ok=True)
    _refused(tmp_path, "preprocessor_config.json", name, value)


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_a_classifier_that_the_configuration_does_not_name_is_not_dropped(name, saved, tmp_path):
    shutil.copytree(saved / name, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["architectures"]
    path.write_text(json.dumps(config))
    with pytest.raises(
        OnnxplainError, match=r"does not fit \w+Model: 2 unexpected: classifier\.bias, classifier\.weight$"
    ):
        load_backbone(f"hf/{tmp_path}")
    assert load_features(f"hf/{tmp_path}").model is not None  # which another head is put on


def test_sizes_that_do_not_go_together_are_one_line_without_weights_too(saved, tmp_path):
    shutil.copytree(saved / "vit", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "magic"}))
    with pytest.raises(OnnxplainError, match=r"^transformers cannot build .*: 'magic'") as caught:
        load_backbone(f"hf/{tmp_path}", random_init=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"problem_type": "multi_label_classification"},
        pytest.param({"id2label": {"0": "cat"}}, marks=pytest.mark.slow),
        pytest.param({}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_probabilities_are_those_of_the_library(settings, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    config = transformers.ViTConfig(**SMALL, **{"id2label": NAMES} | settings)
    randomise(transformers.ViTForImageClassification(config)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SQUASHED))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    theirs = transformers.pipeline("image-classification", str(folder), image_processor=processor)(picture)
    backbone = load_backbone(f"hf/{folder}")
    export_model(backbone, tmp_path / "x.onnx", passes=[])
    ours = Explainer(tmp_path / "x.onnx", "cpu").explain(picture, method="rollout").predictions
    assert [label for _, label, _ in ours] == [item["label"] for item in theirs]
    assert [share for *_, share in ours] == pytest.approx([item["score"] for item in theirs], abs=1e-5)


def test_numbers_are_no_classes(saved, tmp_path):
    shutil.copytree(saved / "vit", tmp_path, dirs_exist_ok=True)
    assert "'regression': the outputs are no classes" in _refused(tmp_path, "config.json", "problem_type", "regression")
