"""Batches in several processes that are interrupted, asked to end, or lose the process that waits for them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from onnxplain.demo import ARTIFACT
from tests.helpers.doc_blocks import ROOT
from tests.helpers.processes import descendants, heed_signals

COPIES = 10  # of each of the folder's images, so that there is time for a signal


@pytest.fixture
def many(folder):
    """A working directory with many images."""
    for path in sorted(Path("images").iterdir()):
        for number in range(COPIES):
            os.link(path, f"images/{number:02}-{path.name}")
    return len(list(Path("images").iterdir()))


@contextmanager
def under_way():
    """The command when it explains, and its processes."""
    command = [sys.executable, ROOT / "cli.py", "batch", ARTIFACT, "images", "--output", "out", "--jobs", "2"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **streams, process_group=0, preexec_fn=heed_signals) as batch:
        end = time.monotonic() + 60
        while not any(path.stat().st_size for path in Path("out").glob("_unfinished/*.rows")):
            assert batch.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        yield batch, [number for number, title in descendants(batch.pid) if "multiprocessing.spawn" in title]


def finish():
    """Have the same command go on, and give the keys of all rows."""
    command = [sys.executable, ROOT / "cli.py", "batch", ARTIFACT, "images", "--output", "out", "--jobs", "2"]
    subprocess.run(command, check=True, capture_output=True)
    assert not list(Path("out/_unfinished").iterdir())
    return sorted(pq.read_table("out")["key"].to_pylist())


def ended(processes):
    """Whether they end within a while."""
    end = time.monotonic() + 30
    while any(Path(f"/proc/{number}").exists() for number in processes) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(Path(f"/proc/{number}").exists() for number in processes)


def test_ctrl_c_goes_to_all_of_them(many):
    with under_way() as (batch, workers):
        os.killpg(batch.pid, signal.SIGINT)
        _, errors = batch.communicate(timeout=60)
    assert batch.returncode == 130
    assert errors == "error: interrupted; the same command goes on where it was\n"
    assert len(workers) == 2 and ended(workers)
    assert len(finish()) == many


def test_a_process_that_is_asked_to_end_keeps_its_rows(many):
    with under_way() as (batch, workers):
        os.kill(workers[0], signal.SIGTERM)
        _, errors = batch.communicate(timeout=120)
    assert (batch.returncode, errors) == (0, "")
    assert len(set(pq.read_table("out")["key"].to_pylist())) == many


def test_processes_end_with_the_one_that_waits_for_them(many):
    with under_way() as (batch, workers):
        batch.kill()
        batch.wait()
        assert len(workers) == 2 and ended(workers)
    assert len(set(finish())) == many
