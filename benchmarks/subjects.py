"""How each way of benchmarks/ways.py is opened and run; benchmarks/worker.py does it.

A way that needs a file imports no more than a user of that file would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError

from .ways import CPU, METHOD, OUTPUTS, WAYS

Run = Callable[[NDArray[np.float32], list[int], str], Any]
"""(pixels [batch, 3, H, W], classes, what) -> whatever it computes."""
Opened = tuple[Run, float | None]
"""And the seconds that it took to open; None where that would be the making of random weights."""


def open_way(way: str, folder: Path, model: str, size: int, device: str, threads: int) -> Opened:
    """Open a way by its name; the seconds are those of what a program does once, imports left out."""
    row = WAYS[way]
    if row.file is not None:
        path = folder / row.file
        if not row.export:
            return _plain(path, device, threads)
        return _bound(path, device, threads) if way == "onnx_bound" else _artifact(path, device, threads, row.packed)
    import torch

    torch.set_num_threads(threads)
    return _fused(model, size, device) if way == "fused" else _reference(way, model, size, device)


def _plain(path: Path, device: str, threads: int) -> Opened:
    import onnxruntime

    from onnxplain.runtime.backends.providers import providers_of_device

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = providers_of_device(device)
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    opened = time.perf_counter() - start
    (name,) = (value.name for value in session.get_inputs())
    return lambda pixels, targets, what: session.run(None, {name: pixels}), opened


def _artifact(path: Path, device: str, threads: int, packed: bool) -> Opened:
    """As the runtime has it, which runs many classes in parts."""
    from onnxplain.contract.outputs import heatmap_output
    from onnxplain.runtime.backends.formats import open_artifact
    from onnxplain.runtime.target_parts import run_in_parts

    if path.suffix == ".pt":
        import torch  # noqa: F401  # as an import, not as a part of opening
    start = time.perf_counter()
    artifact = open_artifact(path, device, threads, trust=True, packed=packed)
    opened = time.perf_counter() - start
    outputs = {"relevance": heatmap_output(METHOD).output} if artifact.metadata.heatmaps else OUTPUTS
    return lambda pixels, targets, what: run_in_parts(artifact, pixels, targets, [outputs[what]]), opened


def _bound(path: Path, device: str, threads: int) -> Opened:
    """The same, with what goes in and comes out in the device's memory: neither is copied when it runs."""
    import onnxruntime

    from onnxplain.runtime.backends.onnx import OnnxArtifact

    start = time.perf_counter()
    session = OnnxArtifact(path, device, threads)._session
    opened = time.perf_counter() - start
    bindings: dict[tuple[int, int, str], onnxruntime.IOBinding] = {}

    def bound(pixels: NDArray[np.float32], targets: list[int], what: str) -> onnxruntime.IOBinding:
        binding = session.io_binding()
        feeds, names = fed(session, pixels, targets, OUTPUTS[what])
        for name, value in feeds.items():
            place = CPU if value.dtype == bool else device  # the CPU reads a flag, to take its branch
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, place, 0))
        for name in names:
            binding.bind_output(name, device)
        return binding

    def run(pixels: NDArray[np.float32], targets: list[int], what: str) -> Any:
        key = len(pixels), len(targets), what
        if key not in bindings:
            bindings[key] = bound(pixels, targets, what)
        session.run_with_iobinding(bindings[key])
        bindings[key].synchronize_outputs()
        return bindings[key].get_outputs()

    return run, opened


def fed(
    session: Any, pixels: NDArray[np.float32], targets: list[int], output: str
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """What a session of a full artifact is fed for one output, and the names of what it gives then.

    Raises:
        OnnxplainError: It has no flag for the output, as in plain artifacts.
    """
    flags = {value.name: np.array(False) for value in session.get_overridable_initializers()}
    if f"with_{output}" not in flags:
        raise OnnxplainError(f"the file has no flag for {output}: it must be a full artifact with that output")
    target = np.tile(np.array(targets, np.int64), (len(pixels), 1))
    return {"pixels": pixels, "target": target, **flags, f"with_{output}": np.array(True)}, ["logits", output]


def _fused(model: str, size: int, device: str) -> Opened:
    """The fused graph, run by PyTorch op by op; it is opened by tracing the model."""
    import torch

    from . import files

    backbone = files.build(model, size)
    start = time.perf_counter()
    graph = files.fused(backbone).to(device)
    opened = time.perf_counter() - start

    def run(pixels: NDArray[np.float32], targets: list[int], what: str) -> Any:
        with torch.inference_mode():
            chosen = torch.tensor([targets] * len(pixels), device=device)
            outputs = graph.compute(torch.from_numpy(pixels).to(device), chosen, ["logits", OUTPUTS[what]])
            return [value.cpu() for value in outputs.values()]

    return run, opened


def _reference(way: str, model: str, size: int, device: str) -> Opened:
    """The published algorithms on the model itself with hooks and autograd, for one class after another."""
    import torch

    from tests.reference import chefer, eager, published

    from . import files

    dtype = torch.float16 if WAYS[way].half else torch.float32
    network = files.build(model, size).model.to(device, dtype)

    def attention(pixels: torch.Tensor) -> Any:
        with torch.no_grad(), eager.explicit_attention() as recorded:
            network(pixels)
        return [matrix.mean(1) for matrix in recorded]

    def gradient(pixels: torch.Tensor, target: torch.Tensor) -> Any:
        _, matrices, gradients = eager.attention_layers(network, pixels, target)
        return [(matrix * slope).mean(1) for matrix, slope in zip(matrices, gradients, strict=True)]

    def published_gradient(pixels: torch.Tensor, target: torch.Tensor) -> Any:
        matrices, gradients = published.attention_layers(network, pixels, target)
        return [(matrix * slope).mean(1) for matrix, slope in zip(matrices, gradients, strict=True)]

    per_class = {
        ("lean", "gradient"): gradient,
        ("lean", "relevance"): lambda *given: [chefer.transformer_attribution(network, *given)],
        ("published", "gradient"): published_gradient,
        ("published", "relevance"): lambda *given: [published.transformer_attribution(network, *given)],
    }

    def run(pixels: NDArray[np.float32], targets: list[int], what: str) -> Any:
        given = torch.from_numpy(pixels).to(device, dtype)
        if what == "attention":
            return [value.cpu() for value in attention(given)]
        function = per_class[way.removesuffix("_half"), what]
        classes = [torch.full((len(given),), target, device=device) for target in targets]
        return [[value.cpu() for value in function(given, target)] for target in classes]

    return run, None
