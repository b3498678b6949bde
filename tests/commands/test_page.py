"""The command page: what it writes, what it refuses, and that the JavaScript knows of each method what Python does."""

import base64
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

import pytest

from onnxplain.commands.page import RUNTIME
from onnxplain.demo.samples import samples
from onnxplain.runtime import METHODS
from onnxplain.runtime.figures.colours import find_colours
from tests.helpers.command_line import assert_mistake, random_image, run
from tests.helpers.plain_artifact import build_plain

pytestmark = pytest.mark.usefixtures("folder")

METHODS_INSIDE = ("legrad", "rollout")
STATIC = {"index.html", "page.css", "icon.svg"} | {
    f"{name}.js" for name in ("page", "classes", "engine", "worker", "remote", "onnxplain")
}


@pytest.fixture
def plain(folder):
    return build_plain(folder / "plain.onnx", METHODS_INSIDE, "required")


@pytest.fixture
def package(folder):
    """What npm installs, as far as it matters here."""
    (folder / "package" / "dist").mkdir(parents=True)
    for name in ("script", "wasm"):
        (folder / "package" / "dist" / RUNTIME[name]).write_text(name)
    return folder / "package"


def _files(place="site"):
    return {str(path.relative_to(place)) for path in Path(place).rglob("*") if path.is_file()}


def _policy(place="site"):
    content = re.search(r'Policy" content="([^"]*)"', Path(place, "index.html").read_text())[1]
    return {name: set(values) for name, *values in map(str.split, content.split(";"))}


def test_a_page_of_two_models_with_samples(plain, package):
    shutil.copy(plain, "other.onnx")
    done = run("page", plain, "other.onnx", "--sample", "cat.png", "--onnxruntime-web", package)
    assert done.exit_code == 0 and "wrote site" in done.stdout
    own = {f"onnxruntime-web/{RUNTIME[name]}" for name in ("script", "wasm")}
    assert _files() == {*STATIC, *own, "page.json", "models/plain.onnx", "models/other.onnx", "samples/cat.png"}
    document = json.loads(Path("site/page.json").read_text())
    assert document["models"][0] == {
        "name": "plain",
        "file": "models/plain.onnx",
        "bytes": plain.stat().st_size,
        "methods": [{"name": name, "summary": METHODS[name].summary} for name in METHODS_INSIDE],
    }
    assert document["samples"] == [{"name": "cat", "file": "samples/cat.png"}]
    assert set(document["runtime"].values()) == own
    assert Path("site/models/plain.onnx").read_bytes() == plain.read_bytes()


def test_the_policy_allows_its_own_files_and_nothing_else(plain, package):
    run("page", plain, "--onnxruntime-web", package / "dist")
    policy = _policy()
    assert policy.pop("script-src") == {"'self'", "'wasm-unsafe-eval'"}
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("form-action") == {"'none'"}
    assert policy and all(values == {"'self'"} for values in policy.values())
    text = Path("site/index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?:", text)


def test_onnxruntime_web_comes_from_a_cdn_with_its_integrity(plain):
    run("page", plain)
    assert _files() == {*STATIC, "page.json", "models/plain.onnx"}
    runtime = json.loads(Path("site/page.json").read_text())["runtime"]
    assert runtime["integrity"] == RUNTIME["integrity"]
    assert f"@{RUNTIME['version']}/" in RUNTIME["address"]
    assert runtime["script"].startswith(RUNTIME["address"]) and runtime["wasm"].startswith(RUNTIME["address"])
    assert _policy()["connect-src"] == {"'self'", RUNTIME["address"]}
    assert _policy()["script-src"] == {"'self'", "'wasm-unsafe-eval'", "blob:"}


def test_the_demo_model_comes_with_its_scenes(folder):
    run("page", build_plain(folder / "demo.onnx", model="demo"))
    assert {name for name in _files() if name.startswith("samples/")} == {
        f"samples/{item.path.name}" for item in samples()
    }


def test_it_replaces_a_page_if_forced_and_nothing_else(plain):
    assert run("page", plain, "--output", "empty").exit_code == 0
    assert_mistake("empty exists; give --force to replace it", "page", plain, "--output", "empty")
    Path("empty/old.txt").touch()
    assert run("page", plain, "--output", "empty", "--force").exit_code == 0
    assert _files("empty") == {*STATIC, "page.json", "models/plain.onnx"}
    for force in ([], ["--force"]):
        assert_mistake("pictures holds other files than a page", "page", plain, "--output", "pictures", *force)
    Path("pictures/page.json").write_text("[]")
    assert_mistake("pictures holds other files than a page", "page", plain, "--output", "pictures", "--force")
    assert_mistake("cat.png is a file; give the name of a folder", "page", plain, "--output", "cat.png")


def test_a_page_that_cannot_be_written_leaves_the_old_one(plain, monkeypatch):
    run("page", plain)
    before = {name: Path("site", name).read_bytes() for name in _files()}

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert_mistake("No space left on device", "page", plain, "--force")
    assert {name: Path("site", name).read_bytes() for name in _files()} == before


def test_the_folder_itself_stays(plain, monkeypatch):
    """A shell stands in it, or a server has it open."""
    Path("here").mkdir()
    Path("link").symlink_to("here")
    inode = Path("here").stat().st_ino
    monkeypatch.chdir("here")
    assert run("page", plain, "--output", ".").exit_code == 0 and Path("page.json").exists()
    monkeypatch.chdir("..")
    assert run("page", plain, "--output", "link", "--force").exit_code == 0
    assert Path("here").stat().st_ino == inode and Path("link").is_symlink() and "page.json" in _files("here")
    before, rename = _files("here"), Path.rename

    def fails_at_the_last(source, target):
        if source.name == "page.json" and source.parent.name == "new":
            raise OSError(5, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fails_at_the_last)
    assert_mistake("Input/output error", "page", plain, "--output", "here", "--force")
    assert _files("here") == before


def test_names_that_mean_something_in_addresses_and_shells(plain):
    shutil.copy(plain, "a #1%ü?.onnx")
    shutil.copy("cat.png", "my cat?.png")
    done = run("page", "a #1%ü?.onnx", "--sample", "my cat?.png", "--output", "my site")
    assert "--directory 'my site', and open" in done.stdout
    document = json.loads(Path("my site/page.json").read_text())
    assert document["models"][0]["name"] == "a #1%ü?" and document["samples"][0]["name"] == "my cat?"
    for entry in (*document["models"], *document["samples"]):
        assert not re.search(r"[ #?]", entry["file"]) and Path("my site", unquote(entry["file"])).is_file()


def test_what_cannot_be_on_a_page_is_refused(plain, artifact, package):
    assert_mistake("write it with: onnxplain export --heatmaps METHOD", "page", artifact)
    assert_mistake("cannot run in a browser", "page", "model.pt")
    assert_mistake("there is no", "page", "none.onnx")
    assert_mistake("two artifacts are called plain.onnx", "page", plain, plain)
    random_image(0).save("cat.tiff")
    assert_mistake("cat.tiff is no image that browsers read; give one of .avif", "page", plain, "--sample", "cat.tiff")
    assert_mistake("text.png", "page", plain, "--sample", "text.png")
    twice = ["--sample", "cat.png", "--sample", "./cat.png"]
    assert_mistake("two samples are called cat.png", "page", plain, *twice)
    (package / "dist" / RUNTIME["wasm"]).unlink()
    assert_mistake(f"npm install onnxruntime-web@{RUNTIME['version']}", "page", plain, "--onnxruntime-web", package)


def test_it_needs_no_pytorch(plain):
    code = (
        "import sys; from onnxplain.cli import app\n"
        f"try: app(['page', {str(plain)!r}])\n"
        "finally: print({'torch', 'onnx', 'timm', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n") and Path("site/index.html").exists()


@pytest.mark.parametrize("field", ["pixel_level", "signed", "relative"])
def test_the_module_knows_what_kind_of_maps_methods_make(field):
    text = (files("onnxplain.web") / "onnxplain.js").read_text()
    names = re.search(rf"const {field.upper()} = new Set\(\[(.*?)\]\)", text, re.DOTALL)[1]
    assert set(re.findall(r'"(\w+)"', names)) == {name for name, item in METHODS.items() if getattr(item, field)}


@pytest.mark.parametrize(("constant", "signed"), [("SEQUENTIAL", False), ("DIVERGING", True)])
def test_the_module_has_the_colours_of_figures(constant, signed):
    text = (files("onnxplain.web") / "onnxplain.js").read_text()
    letters = re.search(rf"const {constant} = decoded\((.*?)\);", text, re.DOTALL)[1]
    palette = base64.b64decode("".join(re.findall(r'"(.*?)"', letters)))
    assert palette == find_colours(None, signed, 1.0).palette.tobytes()
