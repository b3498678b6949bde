"""What the pages of docs/ list is what there is; what they show of commands and Python is run by test_docs_commands."""

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import onnxplain.export
import onnxplain.runtime
from onnxplain.runtime import METHODS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def script(name):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


images, check_site = script("images"), script("check_site")


@pytest.mark.parametrize("package", [onnxplain.runtime, onnxplain.export])
def test_the_api_is_complete(package):
    section = (DOCS / "api.md").read_text().partition(f".. currentmodule:: {package.__name__}\n")[2]
    section = section.partition(".. currentmodule::")[0]
    listed = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", section, re.MULTILINE)
    assert sorted(listed) == sorted(package.__all__)


def test_the_gallery_has_every_method():
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", (DOCS / "gallery.md").read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(name for name, _ in sections) == sorted(METHODS)
    for name, text in sections:
        assert f"```{{include}} gallery/{name}.md\n" in text and "**Misleads**" in text


def test_facts_of_a_method():
    costs = images.measured_costs()
    assert set(costs) <= set(METHODS) and costs["transformer_attribution"] == "5.0" and costs["rise"] == "544"
    facts = images.facts(METHODS["attention_flow"], "121")
    assert "| Cost | 121 runs" in facts and "the same for every class" in facts and "onnxplain[flow]" in facts
    facts = images.facts(METHODS["rollout"], "1.3")
    assert "`head_fusion` = mean: how the heads" in facts and "| Passes | `attention` |" in facts
    assert "| Cost | not measured |" in images.facts(METHODS["rollout"], None)
    assert "each pixel; of one class" in images.facts(METHODS["gradient"], "2.5")


def test_a_strip_of_panels():
    red, blue = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
    line = images.strip([(red, "one", "97.5%"), (blue, "two", "")], 10)
    assert line.size == (40 + images.GAP + 40, 58)
    assert line.getpixel((20, 20)) == (255, 0, 0) and line.getpixel((40 + images.GAP + 20, 20)) == (0, 0, 255)
    under = line.crop((0, 40, 40, 58))
    assert under.getextrema() != ((255, 255),) * 3, "nothing is written under the first panel"


def test_extras_are_those_of_the_project():
    """Each that users may want is told, and no other; the table says all that an extra brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    told = set()
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for listed in re.findall(r"(?:onnxplain|\.)\[([a-z_,]+)\]", page.read_text()):
            told |= set(listed.split(","))
    assert told == set(extras) - {"dev", "docs"}
    text = (DOCS / "install.md").read_text()
    rows = re.findall(r"^\|[^|]+\| `([a-z_,]+)` \|", text.partition("| extras |")[2], re.MULTILINE)
    assert {extra for row in rows for extra in row.split(",")} == told
    assert project["requires-python"] == ">=3.11" and "**Python**: 3.11 or later" in text
    assert extras["cpu"] == ["onnxruntime>=1.24.1"] and "**onnxruntime**: 1.24.1 or later" in text


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_numbers_of_methods(path):
    """Where a page says how many there are."""
    assert set(re.findall(r"\b(\d+) methods", path.read_text())) <= {str(len(METHODS))}


CELLS = [cell for cell in json.loads((DOCS / "notebook.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs():
    assert not any(cell["outputs"] or cell["execution_count"] for cell in CELLS)


def test_the_notebook_runs():
    """With `make docs` Jupyter runs it, and shows what comes out."""
    scope, shown = {}, []
    for cell in CELLS:
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), "cell", "exec"), scope)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), scope))
    assert sum(isinstance(value, Image.Image) for value in shown) == 3
    assert {name for _, _, name in scope["summarize"](scope["results"], scope["METRICS"]).scores} >= {
        "legrad",
        "rollout",
    }


def page(folder, name, body, head=""):
    (folder / name).write_text(f"<html><head>{head}</head><body>{body}</body></html>")


def test_a_site_that_is_right(tmp_path):
    (tmp_path / "own.css").write_text("a { background: url(data:image/png;base64,AA) } @import 'other.css'")
    (tmp_path / "picture.png").touch()
    page(
        tmp_path,
        "a.html",
        '<h1 id="top">A</h1><a href="#top"></a><a href="https://example.com"></a><img src="picture.png">',
    )
    page(tmp_path, "b.html", '<a href="a.html#top"></a>', '<link rel="stylesheet" href="own.css?v=1">')
    assert list(check_site.mistakes(tmp_path)) == []


@pytest.mark.parametrize(
    "body",
    [
        '<a href="nowhere.html"></a>',
        '<a href="#nowhere"></a>',
        '<a href="other.html#nowhere"></a>',
        '<img src="nowhere.png">',
        '<img src="https://example.com/a.png">',
        '<script src="//example.com/a.js"></script>',
        '<link rel="stylesheet" href="https://example.com/a.css">',
        '<link rel="preconnect" href="https://example.com">',
        '<p style="background: url(https://example.com/a.png)"></p>',
    ],
)
def test_a_site_with_a_mistake(body, tmp_path):
    page(tmp_path, "other.html", "")
    page(tmp_path, "a.html", body)
    (mistake,) = check_site.mistakes(tmp_path)
    assert mistake.startswith("a.html: ")


def test_a_site_whose_style_is_elsewhere_or_that_is_empty(tmp_path):
    assert "no page" in next(check_site.mistakes(tmp_path))
    page(tmp_path, "a.html", "")
    (tmp_path / "own.css").write_text("@import url('https://example.com/font.css'); @font-face { src: url(font.woff) }")
    assert list(check_site.mistakes(tmp_path)) == ["own.css: loads https://example.com/font.css"]
