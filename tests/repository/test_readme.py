"""What README and the reference say of Python runs as it stands there; the names in them are those that there are."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from onnxplain import cli
from onnxplain.catalog import MODELS
from onnxplain.runtime import METHODS, Explainer
from tests.helpers.command_line import random_image
from tests.helpers.tiny_artifact import build

ROOT = Path(__file__).parents[2]
README, EXPLAINING, ARTIFACT, EMBEDDING = (
    (ROOT / page).read_text() for page in ("README.md", "docs/explaining.md", "docs/artifact.md", "docs/embed.md")
)
EMBED = re.search(r"## Embed\n\n```python\n(.*?)```", README, re.DOTALL)[1]


@pytest.fixture
def explainer(tmp_path, monkeypatch):
    """In a folder with the image and the artifact of the examples."""
    monkeypatch.chdir(tmp_path)
    random_image(0).save("cat.jpg")
    Path("artifacts").mkdir()
    return Explainer(build(Path("artifacts/vit.onnx")), "cpu")


def test_the_example_of_embedding(explainer):
    pixels = np.zeros((2, 3, *explainer.metadata.preprocessing.size), np.float32)
    scope = {"paths": ["cat.jpg"] * 2, "pixels": pixels}
    exec(EMBED, scope)
    assert scope["result"].label and Path("tabby.png").exists()
    assert len(explainer.explain_pixels(pixels)) == 2


def test_the_example_of_saved_maps(explainer):
    code = re.search(r"```python\n(maps = .*?)```", EXPLAINING, re.DOTALL)[1]
    arguments = ["explain", "artifacts/vit.onnx", "cat.jpg", "--method", "legrad", "--save", "npz"]
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    scope = {"np": np, "json": json}
    exec(code + "result = " + code.splitlines()[-1], scope)
    expected = explainer.explain("cat.jpg", method="legrad")
    np.testing.assert_array_equal(scope["result"], expected.heatmap)
    assert scope["about"]["explanations"][0]["score"] == expected.score


def test_outputs_are_known_to_tensors_by_the_names_in_the_table(explainer):
    table = ARTIFACT.partition("| output | flag | shape |")[2].partition("\n\n")[0]
    names = re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    assert len(names) == 12 and set(explainer.tensors("cat.jpg", passes=names)) == set(names)


def test_methods_and_models_are_listed():
    methods = EXPLAINING.partition("| method | pass | what it is |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", " ".join(line[:60] for line in methods.splitlines()))) == set(METHODS)
    assert f"heatmaps of {len(METHODS)} methods" in README
    many = re.search(r"`explain_all` without.*?\n\n|$", EMBEDDING, re.DOTALL)[0]
    runs = {name: str(method.arguments({}, 12)[method.runs]) for name, method in METHODS.items() if method.runs}
    assert all(f"`{name}`" in many and number in many for name, number in runs.items())
    models = README.partition("| model | what it is | classes |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", models)) - {"--prompts", "--head"} >= {
        name for name in MODELS if not name.endswith("-distilled")
    }


@pytest.fixture(scope="module")
def options():
    """Of all commands, as their help names them."""
    names = [command.name or command.callback.__name__ for command in cli.app.registered_commands]
    helps = [CliRunner().invoke(cli.app, [name, "--help"]) for name in names]
    assert len(names) > 12 and all(each.exit_code == 0 for each in helps)
    return {option for each in helps for option in re.findall(r"(--[a-zA-Z-]+)", each.stdout)}


BENCHMARKS = "performance.md"  # has other commands, whose options test_docs_commands knows
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
FOREIGN = {"--version", "--quiet", "--onnx", "--directory", "--data-binary"}
"""Of the program itself, of benchmarks/sweep.py, of Python's web server, and of curl."""


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != BENCHMARKS], ids=lambda path: path.name
)
def test_options_in_the_text_are_options_of_a_command(document, options):
    """Of the examples in blocks of code and of the options named beside them."""
    told = set(re.findall(r"(?<![\w/])(--[a-zA-Z][a-zA-Z-]+)", document.read_text()))
    assert told - options - FOREIGN == set()


def test_no_document_holds_the_marks_of_a_merge():
    root = Path(__file__).parents[2]
    for document in (*root.glob("*.md"), *root.glob("docs/*.md")):
        assert not re.search(r"^(<<<<<<<|=======|>>>>>>>)( |$)", document.read_text(), re.MULTILINE), document
