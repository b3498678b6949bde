"""What `import onnxplain` gives, and what it costs."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import onnxplain


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
