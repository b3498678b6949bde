"""Settings for all tests."""

import gc
import logging
import os
import sys
from dataclasses import replace

os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's and NumPy's, in the processes that tests start as well

import onnx_ir as ir
import onnxruntime
import pytest
import torch

from onnxplain.export import artifact as export_artifact
from onnxplain.export.formats.table import WRITERS
from tests.helpers.command_line import artifact, exporter, folder  # noqa: F401
from tests.reference import variants


class _OneThread(onnxruntime.SessionOptions):
    """What a session gets that is told no number of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_op_num_threads = 1


# The models are tiny: a second thread costs more than it gives, of onnxruntime's many times as it waits by running
onnxruntime.SessionOptions = _OneThread
logging.getLogger("torch.__trace").propagate = True  # pytest would attach to it else, and tracing take twice as long


def pytest_collection_finish():
    """What was imported stays: the collector need not look at it, which took a tenth of the time of tracing."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()  # or libraries complain of what was never freed


@pytest.fixture(autouse=True)
def no_columns(monkeypatch):
    """As where nobody says how wide the output is; libraries that edit command lines do."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def plain():
    """A small model that no test changes."""
    return variants.build("plain", torch.float32)


@pytest.fixture(scope="session")
def made():
    """What `made_once` remembers."""
    return {}


@pytest.fixture
def made_once(made, monkeypatch):
    """Have export_model trace a model and translate its graph once: for tests of what it does with these."""
    fuse, row = export_artifact.fuse, WRITERS["onnx"]
    module = sys.modules[fuse.__module__]

    def fused(model, example, passes, **rules):
        key = (
            model,
            example.shape,
            passes is None,
            tuple(module.ALL if passes is None else passes),
            tuple(rules.items()),
        )
        if key not in made:
            made[key] = fuse(model, example, passes, **rules)
        return made[key]

    def translated(*given):
        key = given
        if key not in made:
            made[key] = ir.to_proto(row.translate(*given))
        return ir.from_proto(made[key])  # a copy: tests damage it

    monkeypatch.setattr(export_artifact, "fuse", fused)
    monkeypatch.setitem(WRITERS, "onnx", replace(row, translate=translated))
