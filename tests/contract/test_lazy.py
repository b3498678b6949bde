"""Packages that import their names when these are used."""

import importlib
import re
import subprocess
import sys

import pytest

PACKAGES = ("onnxplain", "onnxplain.contract", "onnxplain.runtime")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_is_there_and_no_other(name):
    package = importlib.import_module(name)
    assert set(package.__all__) == set(package._MODULES)
    assert all(getattr(package, each) is not None for each in package.__all__)
    with pytest.raises(AttributeError, match=f"module '{re.escape(name)}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_module_is_imported_when_its_name_is_used():
    code = (
        "import sys\nfrom onnxplain.contract.lazy import importer\n"
        "get = importer('onnxplain.contract', {'Metadata': '.metadata'})\n"
        "assert 'onnxplain.contract.metadata' not in sys.modules\n"
        "get('Metadata')\nassert 'onnxplain.contract.metadata' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
