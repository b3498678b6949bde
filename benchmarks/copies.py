"""Does a run of an ONNX artifact on a GPU go back to the host on the way?

    python -m benchmarks.copies artifacts/vit.onnx [--device cuda] [--batch 1] [--targets 1]

onnxruntime puts a node MemcpyToHost or MemcpyFromHost where a tensor has to change places within the graph; what is fed
and given is copied outside of it. Its profile lists all nodes of a run, and what ran them.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from onnxplain.runtime.backends.providers import CPU, providers_of_device

from .profile import CONTROL, Event, open_session
from .refusing import refusing
from .results import Record
from .subjects import fed
from .ways import OUTPUTS

COPIES = "Memcpy"
"""How the names of these ops begin."""
RUNS = 2
"""Of each output; the last one is looked at."""


def nodes_of_runs(events: Iterable[Event]) -> list[list[Event]]:
    """The nodes of each run, those in branches too; in place of an If, which the profile lists as well."""
    events = list(events)
    spans = [(event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "model_run"]
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    nodes = [event for event in nodes if event["args"]["op_name"] not in CONTROL]
    return [[event for event in nodes if start <= event["ts"] <= end] for start, end in spans]


def counted(nodes: Iterable[Event]) -> dict[str, Any]:
    """How many "copies" these nodes are, how many "nodes" all are, and the ops of those that the CPU ran, "on_cpu"."""
    ops = [(event["args"]["op_name"], event["args"]["provider"]) for event in nodes]
    copies = [name for name, _ in ops if name.startswith(COPIES)]
    on_cpu = Counter(name for name, provider in ops if provider == CPU)
    return {"copies": len(copies), "nodes": len(ops), "on_cpu": dict(on_cpu.most_common())}


def measure(artifact: Path, device: str, batch: int, targets: int) -> list[Record]:
    """`counted` for each output of OUTPUTS, by "what"."""
    with tempfile.TemporaryDirectory() as folder:
        providers = providers_of_device(device)
        file = open_session(str(artifact), providers, enable_profiling=True, profile_file_prefix=f"{folder}/profile")
        shapes = {value.name: value.shape for value in file.get_inputs()}
        pixels = np.random.default_rng(0).normal(size=(batch, *shapes["pixels"][1:])).astype(np.float32)
        for output in OUTPUTS.values():
            feeds, names = fed(file, pixels, list(range(targets)), output)
            for _ in range(RUNS):
                file.run(names, feeds)
        runs = nodes_of_runs(json.loads(Path(file.end_profiling()).read_text()))
    return [{"what": what} | counted(nodes) for what, nodes in zip(OUTPUTS, runs[RUNS - 1 :: RUNS], strict=True)]


def main(
    artifact: Annotated[Path, typer.Argument(help="an ONNX artifact")],
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cuda",
    batch: Annotated[int, typer.Option(help="images in one run")] = 1,
    targets: Annotated[int, typer.Option(help="classes in one run")] = 1,
) -> None:
    """Print one JSON object for each kind of run."""
    with refusing():
        for record in measure(artifact, device, batch, targets):
            print(json.dumps(record))


if __name__ == "__main__":
    typer.run(main)
