"""What is being written stands under no final name, and what killed processes leave of it is removed."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from PIL import Image

from onnxplain.commands.products import save_figure
from onnxplain.export.atomic_files import atomic_file
from onnxplain.export.formats.onnx_file import save_onnx
from onnxplain.export.formats.torchscript_file import save_torchscript
from onnxplain.export.models.heads import Head, write_head
from onnxplain.runtime import Explainer, OnnxplainError, files
from onnxplain.runtime.backends import optimized_cache as kept
from tests.helpers import tiny_artifact


@pytest.fixture(autouse=True)
def forgetful():
    """As a process that has just begun."""
    files._remove_left_behind.cache_clear()


def _left(folder, name):
    path = folder / f"{files.UNFINISHED}{name}"
    (path / "inner").mkdir(parents=True)
    (path / "inner" / "graph.onnx").write_text("half")
    (path / files.LOCK).touch()
    return path


def _save(folder):
    return save_figure(Image.new("RGB", (3, 2)), "png", {"Class": "猫\x1b\ud800"}, folder, "x")


def _export(folder):
    with atomic_file(folder / "x.onnx") as path:
        path.write_text("whole")


def _cache(folder):
    artifact = tiny_artifact.build(folder.parent / f"{folder.name.removesuffix(kept.SUFFIX)}")
    Explainer(artifact, "cpu", cache=True)


@pytest.mark.parametrize(("write", "name"), [(_save, "out"), (_export, "out"), (_cache, "tiny.onnx.cache")])
def test_what_killed_processes_left_is_removed(write, name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    gone = [_left(folder, "abcd1234"), _left(folder, "abcd_234")]
    stay = [_left(folder, "notes"), _left(folder, "unlocked"), _left(folder, "held1234")]
    (stay[1] / files.LOCK).unlink()
    for path in stay:
        os.utime(path, (0, 0))
    held = (stay[2] / files.LOCK).open("rb")
    fcntl.flock(held, fcntl.LOCK_EX)
    write(folder)
    held.close()
    assert not any(path.exists() for path in gone) and all((path / "inner").exists() for path in stay)
    assert len([item for item in folder.iterdir() if item not in stay]) == 1


SCRIPT = """
import sys, time
from pathlib import Path
from onnxplain.commands.new_file import write_new

def slow(path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)

write_new(slow, Path(sys.argv[1]), "x", ".png")
"""


def test_a_killed_process_leaves_nothing_under_a_final_name(tmp_path):
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(files.UNFINISHED)
    assert _save(tmp_path) == tmp_path / "x.png" and list(tmp_path.iterdir()) == [tmp_path / "x.png"]


def test_no_overlay_is_replaced(tmp_path):
    first, second = _save(tmp_path), _save(tmp_path)
    assert (first.name, second.name) == ("x.png", "x-2.png")


def test_what_an_overlay_says_is_printable(tmp_path):
    with Image.open(_save(tmp_path)) as image:
        assert image.text["Class"] == r"猫\x1b\ud800"


def test_a_failure_at_the_last_moment_leaves_nothing(tmp_path, monkeypatch):
    """What fails is replacing, where there are no hard links; and where there are, linking itself."""
    for code in (errno.EPERM, errno.ENOENT):
        monkeypatch.setattr(os, "link", _raising(code))
        monkeypatch.setattr(Path, "replace", _raising(errno.EIO))
        with pytest.raises(OSError, match=r"x\.png"):
            _save(tmp_path / "new" / "one")
        assert not list(tmp_path.iterdir())


def _raising(code):
    def raising(*_):
        raise OSError(code, os.strerror(code))

    return raising


def test_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", _raising(errno.EPERM))
    test_no_overlay_is_replaced(tmp_path)
    assert all(np.asarray(Image.open(path)).shape == (2, 3, 3) for path in tmp_path.iterdir())


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*x\.png'"):
        _save(tmp_path)
    assert not list(Path(tmp_path).iterdir())


@contextmanager
def _files_up_to(size):
    """The system refuses to make files larger, as it does when a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WEIGHT = ir.val("weight", const_value=ir.tensor([0.0] * 2500))
MODEL = ir.Model(ir.Graph([], [], nodes=[], initializers=[WEIGHT]), ir_version=10)
WRITERS = {
    "artifact.onnx": lambda path: save_onnx(MODEL, "{}", path),
    "artifact.pt": lambda path: save_torchscript(torch.jit.script(torch.nn.Linear(50, 50)), "{}", path),
    "head.safetensors": lambda path: write_head(path, Head(torch.zeros(50, 50), torch.zeros(50))),
}


@pytest.mark.parametrize("size", [0, 5000])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_before_all_is_written(name, size, tmp_path):
    path = tmp_path / "new" / name
    refused = pytest.raises(OnnxplainError, match=rf"^cannot write {path}: .*File too large")
    with refused, _files_up_to(size), atomic_file(path) as temporary:
        WRITERS[name](temporary)
    assert not list(tmp_path.iterdir())


def test_an_error_about_another_file_is_not_taken_for_one_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), atomic_file(tmp_path / "x.onnx"):
        (tmp_path / "other").read_bytes()
