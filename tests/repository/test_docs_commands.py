"""Every command and every block of Python in the pages of docs/ is run, in order, in a folder for each page.

The models are small: folders of transformers with random weights, a hub on 127.0.0.1 with such repositories, and names
in commands that stand for others.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from onnxplain.catalog import MODELS
from onnxplain.export import load_backbone
from tests.helpers import transformers_models
from tests.helpers.command_line import random_image
from tests.helpers.doc_blocks import ROOT, blocks, run_blocks
from tests.helpers.hub_server import Hub, as_the_hub
from tests.helpers.quick_export import export_unchecked
from tests.helpers.text_models import save_clip

DOCS = ROOT / "docs"
OTHERS = {"evaluation.md", "performance.md", "runtimes.md"}
"""Their Python is run by test_documented_code.py and test_runtimes.py, as are commands; or they are benchmarks."""
STAND_INS = {"timm/vit_small_patch16_224": "timm/test_vit"}
NAMES = list(transformers_models.NAMES.values())
PAGES = [
    page
    for page in sorted(DOCS.glob("*.md"))
    if page.name not in OTHERS and {language for language, _ in blocks(page.read_text())} & {"", "sh", "python"}
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
        ("my_model", transformers_models.CLASSIFIERS, "vit"),
    ):
        (folder / name).mkdir(parents=True)
        transformers_models.save(folder / name, kind, *kinds[kind])
    (folder / "my_clip").mkdir()
    save_clip(folder / "my_clip")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), folder / "best.pth")
    for number, name in enumerate(NAMES):
        (folder / "photos" / name).mkdir(parents=True)
        for seed in range(6):
            random_image(10 * number + seed).save(folder / "photos" / name / f"{seed}.jpg")
    random_image(0).save(folder / "photo.jpg")
    (folder / "labels.txt").write_text("\n".join(NAMES))
    (folder / "prompts.txt").write_text("a cat\na dog\na car\n")
    (folder / "demo").symlink_to(ROOT / "demo")
    (folder / "artifacts").mkdir()
    export_unchecked(load_backbone("demo"), folder / "artifacts" / "demo.onnx")
    export_unchecked(load_backbone(f"hf/{folder / 'my_model'}"), folder / "artifacts" / "vit.onnx")
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
    monkeypatch.setitem(MODELS, "clip", replace(MODELS["clip"], architecture="my_clip", library="hf", open_clip=""))
    with Hub(things / "hub") as hub:
        yield as_the_hub(hub, tmp_path.with_name("cache"), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of(page, folder):
    scope = {"my_model": timm.create_model("test_vit", num_classes=3).eval(), "paths": ["photo.jpg", "photo.jpg"]}
    assert run_blocks(page.read_text(), scope, STAND_INS) > 0


@pytest.mark.slow
def test_a_command_that_fails_is_found(folder):
    for line in ("onnxplain explain artifacts/demo.onnx nowhere.jpg", "make no-such-thing", "rm -r photos"):
        with pytest.raises(AssertionError):
            run_blocks(f"```\n{line}\n```\n", {}, {})
    assert Path("photos").exists()
