"""Every command and every block of Python in the documents is run, in order, in a folder for each document.

The models are small: folders of transformers with random weights, a hub on 127.0.0.1 with such repositories, and names
in commands that stand for others.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from onnxplain.catalog import MODELS, Row
from onnxplain.export import load_backbone
from tests.helpers import transformers_models
from tests.helpers.command_line import random_image
from tests.helpers.doc_blocks import ROOT, blocks, run_blocks
from tests.helpers.hub_server import Hub, as_the_hub
from tests.helpers.quick_export import export_unchecked
from tests.helpers.text_models import save_clip

DOCS = ROOT / "docs"
ELSEWHERE = {"evaluation.md", "runtimes.md", "scale.md"}
"""Their Python is run by test_documented_code.py, test_runtimes.py, and in tests/batch."""
SMALL = {
    f"timm/{name}": ["timm/test_vit"]
    for name in ("vit_small_patch16_224", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_224")
}
STAND_INS = {
    "README.md": {
        **SMALL,
        "torchvision/vit_b_16": ["hf/my_model"],
        "open_clip/ViT-B-16/laion2b_s34b_b88k": ["hf/my_clip"],
        "207": ["1"],  # a class
        "200": ["1"],  # images
        "50": ["3"],
        "20": ["2", "--draws", "1"],
    },
    "explaining.md": {**SMALL, "207": ["1"]},
    "evaluation.md": {"20": ["2", "--draws", "1"], "10": ["1", "--limit", "1"]},
}
"""By document; SMALL for others."""
NAMES = ["cat", "dog", "crane"]
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
    if {language for language, _ in blocks(page.read_text())} & {"", "sh"} or page.name == "embed.md"
]


@pytest.fixture(scope="session")
def things(tmp_path_factory):
    """The files that pages name; made once, and read only."""
    folder = tmp_path_factory.mktemp("documents")
    repositories = {"dinov2": "dinov2", "dinov2-reg": "dinov2-reg"}
    imagenet = {index: f"LABEL_{index}" for index in range(1000)}
    for row, kind in repositories.items():
        repository = folder / "hub" / MODELS[row].repository
        repository.mkdir(parents=True)
        transformers_models.save(repository, kind, *transformers_models.CLASSIFIERS[kind], names=imagenet)
    for name, kinds, kind in (
        ("hub/facebook/dinov2-small", transformers_models.TOWERS, "dinov2"),
        ("my_features", transformers_models.TOWERS, "vit"),
    ):
        (folder / name).mkdir(parents=True)
        transformers_models.save(folder / name, kind, *kinds[kind])
    (folder / "my_model").mkdir()
    labels = {0: "cat, tabby", 1: "dog", 2: "crane"}
    transformers_models.save(folder / "my_model", "vit", *transformers_models.CLASSIFIERS["vit"], names=labels)
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "my_finetuned_model").symlink_to(folder / "my_model")
    (folder / "my_clip").mkdir()
    save_clip(folder / "my_clip")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), folder / "best.pth")
    torch.save(timm.create_model("test_vit", num_classes=10).state_dict(), folder / "mine.pth")
    for name in ("my_deit", "mine"):
        (folder / f"{name}.safetensors").symlink_to(folder / "my_model" / "model.safetensors")
    save_file({"weight": torch.randn(3, 24)}, folder / "head.safetensors")
    for number, name in enumerate(NAMES):
        (folder / "photos" / name).mkdir(parents=True)
        for seed in range(6):
            random_image(10 * number + seed).save(folder / "photos" / name / f"{seed}.jpg")
    (folder / "images").symlink_to(folder / "photos")
    for name in ("photo.jpg", "cat.jpg"):
        random_image(0).save(folder / name)
    random_image(0).save(folder / "photos" / "others.jpg")
    (folder / "labels.txt").write_text("\n".join(NAMES))
    (folder / "prompts.txt").write_text("a cat\na dog\na car\n")
    (folder / "demo").symlink_to(ROOT / "demo")
    (folder / "artifacts").mkdir()
    export_unchecked(load_backbone("demo"), folder / "artifacts" / "demo.onnx")
    export_unchecked(load_backbone(f"hf/{folder / 'my_model'}"), folder / "artifacts" / "vit.onnx")
    (folder / "artifacts" / "deit.onnx").symlink_to(folder / "artifacts" / "vit.onnx")
    return folder


@pytest.fixture
def folder(things, tmp_path, monkeypatch):
    """A folder with these files, in which others can be written."""
    for path in things.iterdir():
        if path.name not in ("hub", "artifacts"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "artifacts").mkdir()
    for path in (things / "artifacts").iterdir():
        (tmp_path / "artifacts" / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for name, model in (("clip", "my_clip"), ("vit", "my_model"), ("deit", "my_model"), ("mae", "my_features")):
        monkeypatch.setitem(MODELS, name, Row(name, model, classes=0, library="hf"))
    with Hub(things / "hub") as hub:
        yield as_the_hub(hub, tmp_path.with_name("cache"), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of(page, folder):
    of_readme = page.name == "README.md"
    scope = {
        "my_model": timm.create_model(
            "test_vit", num_classes=2 if of_readme else 3, img_size=224 if of_readme else 160
        ),
        "paths": ["photo.jpg", "photo.jpg"],
        "np": np,
        "json": json,
        "pixels": np.zeros((2, 3, 42, 42), np.float32),
    }
    scope["my_model"].eval()
    assert run_blocks(page.read_text(), None if page.name in ELSEWHERE else scope, STAND_INS.get(page.name, SMALL)) > 0


@pytest.mark.slow
def test_a_command_that_fails_is_found(folder):
    for line in ("onnxplain explain artifacts/demo.onnx nowhere.jpg", "make no-such-thing", "rm -r photos"):
        with pytest.raises(AssertionError):
            run_blocks(f"```\n{line}\n```\n", {}, {})
    assert Path("photos").exists()
