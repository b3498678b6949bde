"""Ways that run in turn, each in a process of its own; whose memory can be told from that of the others, therefore."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from .results import Case, Record
from .ways import CPU

LONG = 60
"""Seconds of a run that is not made a second time; a first run is somewhat slower, as memory is taken."""
DIED = "the process died, for want of memory perhaps"
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torch", "timm")
"""What the times depend on."""

Key = TypeVar("Key", bound=Hashable)


class Worker:
    """A process of benchmarks/worker.py. On a GPU, "peak" is what it holds there, if no other process takes any."""

    def __init__(self, way: str, folder: Path, case: Case) -> None:
        self._device, self._before = case.device, _device_bytes(case.device)
        question = {name: getattr(case, name) for name in ("model", "size", "threads", "device")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps({"way": way, "folder": str(folder), **question})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.opened = self._answer()

    def run(self, what: str, case: Case) -> Record:
        """Have it compute ``what`` once, with the batch and classes of the case: {"seconds", "peak"}, or {"error"}."""
        if self._process.poll() is not None or "error" in self.opened:
            return {"error": self.opened.get("error", DIED)}
        assert self._process.stdin is not None
        question = {"what": what, "batch": case.batch, "targets": case.targets}
        print(json.dumps(question), file=self._process.stdin, flush=True)
        answer = self._answer()
        if self._device != CPU:
            answer["peak"] = _device_bytes(self._device) - self._before
        return answer

    def _answer(self) -> Record:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: Record = json.loads(line) if line else {"error": DIED}
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


Get = Callable[[str, Path, Case], Worker]
"""The process of a way, for files in a folder and the model, size, threads and device of a case."""


@contextmanager
def workers() -> Iterator[Get]:
    """What gives the process of a way: a new one when it is first asked for. In the end all are ended."""
    started: dict[str, Worker] = {}

    def get(way: str, folder: Path, case: Case) -> Worker:
        if way not in started:
            started[way] = Worker(way, folder, case)
        return started[way]

    try:
        yield get
    finally:
        for worker in started.values():
            worker.close()


def interleaved(acts: Mapping[Key, Callable[[], Record]], runs: int, budget: float) -> dict[Key, Record]:
    """Run all in turn, each once and then as often as ``budget`` seconds allow, ``runs`` times at most.

    The first run of each counts only if it takes longer than LONG, so that there is no other: "runs" is 0 then.

    Returns:
        By key "seconds", the median, "runs", and the "peak" of the first run; or the "error" of that.
    """
    first = {key: act() for key, act in acts.items()}
    took = {key: answer["seconds"] for key, answer in first.items() if "seconds" in answer}
    often = {key: max(int(min(runs, budget / seconds)), seconds <= LONG) for key, seconds in took.items()}
    times: dict[Key, list[float]] = {key: [] for key in often}
    rounds = max(often.values(), default=0)
    for turn in range(rounds):
        for key, count in often.items():
            due = (turn + 1) * count // rounds > turn * count // rounds  # spread over the rounds evenly
            if due and "seconds" in (answer := acts[key]()):
                times[key].append(answer["seconds"])
    return {
        key: {"seconds": median(times[key] or [took[key]]), "runs": len(times[key]), "peak": answer["peak"]}
        if key in took
        else answer
        for key, answer in first.items()
    }


def reason(error: str) -> str:
    """An error as the tables tell it: whoever asked for too much memory gets one of many messages."""
    signs = ("memory", "alloc", "create a primitive")  # the last is oneDNN's
    return "not enough memory" if any(sign in error.lower() for sign in signs) else error


def machine() -> str:
    """The processor, and the versions of what the times depend on."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    (memory,) = (int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    parts = [names[0] if names else platform.machine(), f"{cores()} cores", f"{memory:.0f} GiB of memory"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, *_versions()])


def memory(process: int) -> dict[int, int]:
    """The KiB that a process holds and each of those that it has started; what several share is divided among them."""
    held: dict[int, int] = {}
    last = [process]
    while last:
        found = []
        for each in last:
            try:
                rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
                children = [path.read_text() for path in Path(f"/proc/{each}/task").glob("*/children")]
            except OSError:  # it has ended
                continue
            held[each] = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
            found += [int(child) for text in children for child in text.split()]
        last = found
    return held


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:  # there is onnxruntime or onnxruntime-gpu
            continue


def _device_bytes(device: str) -> int:
    """How much memory of the GPU is in use, by anyone."""
    if device == CPU:
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
