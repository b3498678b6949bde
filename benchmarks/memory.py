"""One way in a process of its own: how long it takes to open, and how much memory the process takes at its peak.

    PYTHONPATH=tests python -m benchmarks.memory '{"way": "onnx", "path": "vit.onnx", "what": "relevance", …}'

Prints one JSON object. benchmarks/cost.py starts it; memory cannot be measured where other ways have run before.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def main(way: str, path: str, model: str, size: int, what: str, batch: int, targets: int, threads: int) -> None:
    """Open, run once, and print seconds and bytes; on Linux, which counts what a process has held at most."""
    pixels = np.random.default_rng(0).normal(size=(batch, 3, size, size)).astype(np.float32)
    if path:  # only what a user of the file would import
        from onnxplain.runtime.formats import open_artifact

        output = {"attention": "attention_mean", "gradient": "gradient_attention_mean"}
        start = time.perf_counter()
        artifact = open_artifact(Path(path), "cpu", threads)
        opened = time.perf_counter() - start
        artifact.run(pixels, list(range(targets)), [output.get(what, "gradient_relevance_positive")])
    else:
        import torch

        from . import subjects

        torch.set_num_threads(threads)
        start = time.perf_counter()
        built = subjects.build(model, size)
        fused = way.startswith("fused")
        runs = subjects.of_fused_graph(built, (size, size), "cpu") if fused else subjects.of_reference(built, "cpu")
        opened = time.perf_counter() - start
        runs[what](pixels, list(range(targets)))
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"opened": opened, "peak": 1024 * int(line.split()[1])}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
