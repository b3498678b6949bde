"""The benchmark on a GPU, as far as it can be tried without one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.processes import Worker
from benchmarks.results import Case, Record, Results
from benchmarks.ways import CUDA, WAYS
from onnxplain.contract.errors import OnnxplainError


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without CUDA")
def test_without_a_device_there_is_one_line_and_an_error_status() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "there is no CUDA device that PyTorch can use: nothing is measured\n"


def test_without_the_provider_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def refuse(device: str) -> None:
        raise OnnxplainError(f"`device` {device} needs a provider")

    monkeypatch.setattr(gpu, "providers_of_device", refuse)
    assert gpu.missing() == "`device` cuda needs a provider"


class Imagined(Worker):
    """A process that takes as long as it has to do."""

    def __init__(self, way: str, folder: Path, case: Case) -> None:
        started.append(way)
        self.opened = {"opened": 0.1}
        self._slow = 4.0 if WAYS[way].file is None else 1.0

    def run(self, what: str, case: Case) -> Record:
        if case.batch == 64 and self._slow > 1:
            return {"error": "CUDA out of memory"}
        return {"seconds": self._slow * case.batch * case.targets / 1000, "peak": 10**9}

    def close(self) -> None:
        pass


started: list[str] = []


def test_tables_of_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way but for the processes: one of each way for all cases, and none for what is there already."""
    started.clear()
    results = tmp_path / "gpu.jsonl"

    def write_files(case: Case, ways: list[str], folder: Path) -> None:
        for way in ways:
            (folder / (WAYS[way].file or "none")).write_bytes(b"1234")

    def asked_of(program: str, folder: Path, way: str) -> list[Record]:
        assert program == "copies"
        return [{"what": "relevance", "copies": 0, "nodes": 5, "on_cpu": {}}]

    monkeypatch.setattr(gpu, "missing", lambda: None)
    monkeypatch.setattr(gpu, "machine", lambda: "a machine")
    monkeypatch.setattr("benchmarks.cost.write_files", write_files)
    monkeypatch.setattr("benchmarks.cost.asked_of", asked_of)
    monkeypatch.setattr("benchmarks.processes.Worker", Imagined)
    page = tmp_path / "page.md"
    page.write_text(f"{gpu.BEGIN}\n<!-- end -->")
    gpu.main(["vit_tiny_patch16_224"], False, results, page)
    on_cuda = [way for way, row in WAYS.items() if CUDA in row.devices]
    assert started == on_cuda and "lean_half" in on_cuda and "onnx_bound" in on_cuda and "onnx_int8" not in on_cuda
    held = Results(results)
    cases = {case for case, _, _ in held.times()}
    assert {(case.batch, case.targets) for case in cases} == {(n, k) for n in (1, 8, 64) for k in (1, 10)}
    assert {case.device for case in cases} == {CUDA} and len(held.copies()) == 2
    text = page.read_text()
    assert "| relevance | 64 | 10 | ONNX artifact, I/O binding | 640 |" in text
    assert "| reference, lean, float16 | not run: not enough memory |" in text
    assert "Copies between the GPU and the host within a run" in text
    before = results.read_text()
    lines = before.splitlines(keepends=True)
    results.write_text("".join(line for line in lines if '"way": "published_half"' not in line))
    started.clear()
    gpu.main(["vit_tiny_patch16_224"], False, results, None)
    assert started == ["published_half"] and sorted(results.read_text().splitlines()) == sorted(before.splitlines())
