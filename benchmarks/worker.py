"""One way in a process of its own, so that its memory can be told from that of the others.

    python -m benchmarks.worker '{"way": "onnx", "folder": "…", "model": "…", "size": 224, …}'

Opens it and prints a line of JSON; then runs once for each line it reads, '{"what": "relevance", "batch": 1, "targets":
1}', and prints another. benchmarks/processes.py starts it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import subjects
from .ways import CPU, CUDA

RESERVE = 2**31
"""Bytes of memory that stay free for the rest of the machine."""


def kilobytes(path: str, name: str) -> int:
    """A line of a file in /proc, in bytes."""
    (line,) = (line for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def limit_memory() -> None:
    """Have allocations beyond the machine's free memory fail in this process; the system would kill any other."""
    room = max(kilobytes("/proc/meminfo", "MemAvailable") - RESERVE, 0)
    limit = kilobytes("/proc/self/status", "VmData") + room
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def main(way: str, folder: str, model: str, size: int, threads: int, device: str) -> None:
    """Answer on what was the standard output; whatever libraries print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(act: Callable[[], dict[str, Any]]) -> None:
        try:
            if device == CPU:
                limit_memory()
            told = act() | {"peak": kilobytes("/proc/self/status", "VmHWM")}
        except Exception as error:  # whatever it is, the others go on
            told = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(told), file=answers, flush=True)

    runs: list[subjects.Run] = []
    random = np.random.default_rng(0)

    def open_it() -> dict[str, Any]:
        if device == CUDA:  # before the clock starts: the libraries that come as Python packages beside it
            import onnxruntime

            onnxruntime.preload_dlls()
        run, opened = subjects.open_way(way, Path(folder), model, size, device, threads)
        runs.append(run)
        return {"opened": opened}

    def run_once(line: str) -> dict[str, Any]:
        what, batch, targets = (json.loads(line)[name] for name in ("what", "batch", "targets"))
        pixels = random.normal(size=(batch, 3, size, size)).astype(np.float32)
        start = time.perf_counter()
        runs[0](pixels, list(range(targets)), what)
        return {"seconds": time.perf_counter() - start}

    answer(open_it)
    for line in sys.stdin:
        answer(partial(run_once, line))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
