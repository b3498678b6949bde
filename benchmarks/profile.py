"""Where the time of an ONNX artifact goes: how much in matrix products, and how near these come to the peak rate.

    python -m benchmarks.profile artifacts/vit.onnx [--output gradient_relevance_positive] [--batch 1] [--targets 1]

One thread. onnxruntime's own profile says how long each node took and on what shapes. The peak rate is the best that
square products reach with a constant matrix. onnxruntime packs that when it opens the file, and here the artifact's
weights too, as it does with `Explainer(…, packed=True)`; the rate is measured in the same process, in turn with the
artifact.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.runtime.backends.providers import CPU, Provider

from .refusing import refusing
from .subjects import fed

PRODUCTS = {"MatMul", "FusedMatMul", "Gemm"}
CONTROL = {"If", "Loop", "Scan"}
"""Nodes whose time is that of the nodes in their branches, which the profile lists as well."""
SIDES = (512, 1024, 2048)
"""Of the square products that the peak rate is measured with; the largest need not be the fastest."""
SQUARES = 3
"""Of each in a turn."""
NAMED = 6
"""How many ops of the rest are told by name."""

Event = Mapping[str, Any]


def flops(event: Event) -> int:
    """Operations of a matrix product, 2 M N K for each pair of matrices, from the shapes of an event of the profile.

    A packed weight is not among the inputs, so the second of a Gemm may be what is added. K is what the first or the
    second factor has for each row or column of each matrix of the result; the factor that is broadcast over them has
    less, so the larger of the two is K.
    """
    (result,) = (shape for item in event["args"]["output_type_shape"] for shape in item.values())
    *batch, rows, columns = result
    count = 1 if event["args"]["op_name"] == "Gemm" else 2
    factors = [math.prod(shape) for item in event["args"]["input_type_shape"][:count] for shape in item.values()]
    if not math.prod(result):
        return 0
    matrices = math.prod(batch)
    depth = max(size // (matrices * side) for size, side in zip(factors, (rows, columns), strict=False))
    return 2 * math.prod(result) * depth


def summary(events: Iterable[Event], first: int) -> dict[str, Any]:
    """Shares and rates over the runs of a profile but the ``first`` ones.

    "share": of the time in products, "flops": of one run, "rate": flops per second in products, "rest": share by op,
    the largest, "other ops" and what no node accounts for.
    """
    events = list(events)
    runs = [event for event in events if event["name"] == "model_run"][first:]
    began, total = runs[0]["ts"], sum(run["dur"] for run in runs)
    times: Counter[str] = Counter()
    done = 0
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or event["ts"] < began:
            continue
        name = event["args"]["op_name"]
        if name not in CONTROL:
            times[name] += event["dur"]
        if name in PRODUCTS:
            done += flops(event)
    outside = total - sum(times.values())
    products = sum(times.pop(name, 0) for name in PRODUCTS)
    named = dict(times.most_common(NAMED))
    rest = named | {"other ops": sum(times.values()) - sum(named.values()), "between nodes": outside}
    return {
        "seconds": total / len(runs) / 1e6,
        "share": products / total,
        "flops": done / len(runs),
        "rate": done / products * 1e6,
        "rest": {name: value / total for name, value in rest.items()},
    }


def open_session(
    model: str | bytes, providers: Sequence[Provider] = (CPU,), **settings: Any
) -> onnxruntime.InferenceSession:
    """On one thread, with nodes in the order that the runtime has them in, and these settings of SessionOptions.

    Raises:
        OnnxplainError: onnxruntime cannot open it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4  # what goes wrong is raised
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED  # as the runtime has it
    for name, value in settings.items():
        setattr(options, name, value)
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise OnnxplainError(f"the file cannot be opened: {one_line(error)}") from None


def _square(side: int) -> bytes:
    """An ONNX model that multiplies its input by a constant matrix."""
    weight = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [side, side]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    graph = helper.make_graph([node], "square", values[:1], values[1:], [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def measure(artifact: Path, output: str, batch: int, targets: int, runs: int) -> dict[str, Any]:
    """`summary` of ``runs`` runs after one that does not count, and "peak_rate", that of the best square product."""
    random = np.random.default_rng(0)
    squares = [(open_session(_square(side)), random.normal(size=(side, side)).astype(np.float32)) for side in SIDES]
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        file = open_session(str(artifact), enable_profiling=True, profile_file_prefix=f"{folder}/profile")
        shapes = {value.name: value.shape for value in file.get_inputs()}
        pixels = random.normal(size=(batch, *shapes["pixels"][1:])).astype(np.float32)
        feeds, names = fed(file, pixels, list(range(targets)), output)
        for _ in range(runs + 1):
            file.run(names, feeds)
            for square, x in squares * SQUARES:
                start = time.perf_counter()
                square.run(None, {"x": x})
                rates.append(2 * len(x) ** 3 / (time.perf_counter() - start))
        found = json.loads(Path(file.end_profiling()).read_text())
    return summary(found, 1) | {"peak_rate": max(rates)}


def main(
    artifact: Annotated[Path, typer.Argument(help="an ONNX artifact")],
    output: Annotated[str, typer.Option(help="the output to compute")] = "gradient_relevance_positive",
    batch: Annotated[int, typer.Option(help="images in one run")] = 1,
    targets: Annotated[int, typer.Option(help="classes in one run")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="runs that count")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Print the shares of the time, and the rates."""
    with refusing():
        found = measure(artifact, output, batch, targets, runs)
    if as_json:
        print(json.dumps(found))
        return
    table = Table("", "% of the time", title=f"{output} in {1000 * found['seconds']:.0f} ms, one thread")
    table.add_row("matrix products", f"{100 * found['share']:.1f}")
    for name, share in found["rest"].items():
        table.add_row(name, f"{100 * share:.1f}")
    Console().print(table)
    rate, peak = found["rate"], found["peak_rate"]
    print(f"products: {found['flops'] / 1e9:.1f} GFLOP at {rate / 1e9:.1f} GFLOP/s, {rate / peak:.0%} of the peak rate")
    print(f"peak rate: {peak / 1e9:.1f} GFLOP/s, the best of square products with a constant")


if __name__ == "__main__":
    typer.run(main)
