"""What `import onnxplain` gives, and what it costs."""

import subprocess
import sys
import tomllib
import venv
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import onnxplain

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", onnxplain.__all__)
def test_names_at_the_top(name):
    assert getattr(onnxplain, name) is getattr(import_module(onnxplain._MODULES[name], "onnxplain"), name)


def test_version():
    assert onnxplain.__version__ == version("onnxplain")
    with pytest.raises(AttributeError, match="has no attribute 'explain'"):
        onnxplain.explain  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, onnxplain; onnxplain.__version__; print({'torch', 'onnxruntime', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_it_says_that_it_is_typed():
    assert (Path(onnxplain.__file__).parent / "py.typed").is_file()


def test_all_packages_are_in_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed, names = settings["packages"], {Path(path): name for name, path in settings["package-dir"].items()}
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("*/**/__init__.py")} | {Path()}
    apart = (".", "tests", "benchmarks", "build")
    ours = {folder for folder in folders if not str(folder).startswith(apart) or folder == Path()}
    assert set(listed) == {names.get(folder, ".".join(("onnxplain", *folder.parts))) for folder in ours}


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment(tmp_path):
    """From `pip install` to the first heatmap, with what the extra cpu brings and nothing else."""
    made = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(made, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    own = tmp_path / "empty" / "bin"
    subprocess.run([own / "pip", "install", "--quiet", f"{wheel}[cpu]"], check=True, capture_output=True)
    done = subprocess.run([own / "onnxplain", "demo"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and len(list((tmp_path / "explanations").iterdir())) >= 2
    packages = subprocess.run([own / "pip", "list"], check=True, capture_output=True, text=True).stdout
    assert "onnxruntime" in packages and "torch" not in packages
