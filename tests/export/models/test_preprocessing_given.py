"""How pictures are prepared, given in place of what the model says, or where it says nothing."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import transformers
from PIL import Image

from onnxplain.commands import arguments
from onnxplain.export import export_model, load_backbone, load_features
from onnxplain.runtime import Explainer, OnnxplainError, Preprocessing, preprocess
from tests.helpers.command_line import assert_mistake, run
from tests.helpers.transformers_models import CLASSIFIERS, save

pytestmark = pytest.mark.usefixtures("folder")

TINY = "timm/test_vit"
GIVEN = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
REST = {"crop_pct": 0.8, "crop_mode": "squash", "interpolation": "bilinear"}


@pytest.mark.parametrize("given", [GIVEN, REST, {**GIVEN, **REST, "crop_rounding": "floor"}, {"mean": [0.1, 0.2, 0.3]}])
def test_they_replace_those_fields_of_the_model_s_own(given):
    own = load_backbone(TINY, random_init=True).preprocessing
    expected = replace(own, **given)
    assert load_backbone(TINY, random_init=True, preprocessing=given).preprocessing == expected != own
    assert load_features(TINY, random_init=True, preprocessing=given).preprocessing == expected


@pytest.fixture(scope="module")
def mute(tmp_path_factory):
    """A folder of transformers without its processor's configuration."""
    path = tmp_path_factory.mktemp("mute")
    save(path, "vit", *CLASSIFIERS["vit"])
    (path / "preprocessor_config.json").unlink()
    return path


def test_a_folder_of_transformers_without_a_processor(mute, tmp_path):
    """What the file computes is what the processor that was told of would have fed the model."""
    assert load_backbone(f"hf/{mute}", preprocessing=GIVEN).preprocessing == Preprocessing(
        (42, 42), **GIVEN, crop_rounding="floor"
    )
    backbone = load_backbone(f"hf/{mute}", preprocessing={**GIVEN, **REST})
    export_model(backbone, tmp_path / "x.onnx", passes=[])
    explainer = Explainer(tmp_path / "x.onnx", "cpu")
    assert explainer.metadata.preprocessing == backbone.preprocessing
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    size = {"height": 52, "width": 52}  # 42 / 0.8
    processor = transformers.ViTImageProcessorPil(
        size=size, resample=2, image_mean=GIVEN["mean"], image_std=GIVEN["std"]
    )
    expected = processor(picture, return_tensors="np")["pixel_values"][0]
    assert expected.shape == (3, 52, 52)
    given = preprocess(picture, explainer.metadata.preprocessing)[0]
    np.testing.assert_allclose(given, expected[:, 5:47, 5:47], atol=1e-6)


def test_another_size(mute):
    given = load_backbone(f"hf/{mute}", image_size=56, preprocessing=GIVEN).preprocessing
    assert given == Preprocessing((56, 56), **GIVEN, crop_rounding="floor")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hf/MUTE", {}, "or give the preprocessing: `mean` and `std`"),
        ("hf/MUTE", {"mean": (0.5,) * 3}, "holds no preprocessor_config.json"),
        (TINY, {"size": (64, 64)}, "no field of preprocessing 'size'; there are.*; `image_size` is its size"),
        (TINY, {"crop": 1}, "no field of preprocessing 'crop'; did you mean 'crop_"),
        (TINY, {"mean": (0.5, 0.5)}, "field 'mean' must be three numbers"),
        (TINY, {"std": (0, 1, 1)}, "field 'std' must be three numbers"),
        (TINY, {"crop_mode": "middle"}, "field 'crop_mode' must be one of center"),
        ("demo", {"crop_pct": 0.5}, "image size and preprocessing cannot be changed"),
    ],
)
def test_what_is_refused(name, options, message, mute):
    with pytest.raises(OnnxplainError, match=message):
        load_backbone(name.replace("MUTE", str(mute)), random_init=name == TINY, preprocessing=options)


# --- on the command line


def test_options(exporter):
    options = ["--mean", "0.1,0.2,0.3", "--std", "0.5", "--crop-pct", 1, "--crop-mode", "squash"]
    assert run("export", "--model", "vit", *options, "--interpolation", "lanczos").exit_code == 0
    assert exporter.calls[0][-1] == {
        "mean": (0.1, 0.2, 0.3),
        "std": (0.5, 0.5, 0.5),
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "interpolation": "lanczos",
    }


def test_probe_passes_them_on_and_to_the_export_it_proposes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    report = SimpleNamespace(
        held_out=[1], correct=[1], labels=["a"], fitted=1, computed=1, cache=Path("x"), C=1.0, tried={}, accuracy=1.0,
        repeated=0, skipped=[],
    )  # fmt: skip
    calls = []
    package = SimpleNamespace(
        split_images=lambda *_: SimpleNamespace(figures_skipped=0),
        load_features=lambda *arguments: calls.append(arguments),
        probe=lambda features, split, path, *_: path.write_text("head") and report,
    )
    monkeypatch.setattr(arguments, "export_package", lambda: package)
    options = ["--mean", "0.1,0.2,0.3", "--std", "0.5", "--crop-pct", "0.9", "--interpolation", "bilinear"]
    result = run("probe", "--model", "vit", "--data", ".", "--output", "head.safetensors", *options)
    assert result.exit_code == 0, result.output
    assert calls[0][-1] == {
        "mean": (0.1, 0.2, 0.3),
        "std": (0.5, 0.5, 0.5),
        "crop_pct": 0.9,
        "interpolation": "bilinear",
    }
    assert f" export --model vit {' '.join(options)} --head head.safetensors" in result.stdout


@pytest.mark.parametrize("command", [["export"], ["probe", "--data", "pictures"]])
@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("--mean must be three numbers, such as 0.485,0.456,0.406, or one for all, got '1,2'", ["--mean", "1,2"]),
        ("--std must be three numbers, such as 0.485,0.456,0.406, or one for all, got 'x'", ["--std", "x"]),
        ("field 'std' must be three numbers from 0.001", ["--std", "0"]),
        ("field 'mean' must be three numbers from -10", ["--mean", "nan,0,0"]),
        ("field 'crop_pct' must be a number from 0.1 to 10", ["--crop-pct", "0"]),
        ("no crop mode 'Centre'; there are: center, squash, border; did you mean 'center'?", ["--crop-mode", "Centre"]),
        ("no interpolation 'BICUBIC'; did you mean 'bicubic'", ["--interpolation", "BICUBIC"]),
    ],
)
def test_mistakes_are_found_before_any_work(exporter, command, message, options):
    assert_mistake(message, *command, "--model", "vit", *options)
    assert exporter.calls == []
