"""The ways to get an explanation that benchmarks/cost.py compares, as data: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CPU, CUDA = "cpu", "cuda"

OUTPUTS = {
    "attention": "attention_mean",
    "gradient": "gradient_attention_mean",
    "relevance": "gradient_relevance_positive",
}
"""What is computed, and the output of the fused graph that it is.

It is named after what its methods need: attention (rollout), gradient (grad_rollout) and relevance
(transformer_attribution, which needs both of the others).
"""
PASSES = ("logits", *OUTPUTS)
"""From the least to the most memory, as a process is asked what it has held at most."""
BACKWARD = ("gradient", "relevance")
METHOD = "transformer_attribution"


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        label: Its name in the tables.
        computes: What it can compute, of PASSES.
        file: The name of the file that it opens, if it needs one only.
        export: What `export_model` is given to write that file; of the plain forward pass nothing.
        devices: Where it is run.
        single: Whether it is run for one image and one class only.
        half: Whether it computes in float16.
        packed: Whether its file is opened with `packed=True`.
    """

    label: str
    computes: tuple[str, ...]
    file: str | None = None
    export: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[str, ...] = (CPU, CUDA)
    single: bool = False
    half: bool = False
    packed: bool = False


ALL = tuple(OUTPUTS)
WAYS = {
    "plain": Way("plain forward pass (F)", ("logits",), "plain.onnx"),
    "onnx": Way("ONNX artifact", ALL, "all.onnx", {"passes": BACKWARD}),
    "onnx_packed": Way("ONNX artifact, packed", ALL, "all.onnx", {"passes": BACKWARD}, (CPU,), packed=True),
    "onnx_bound": Way("ONNX artifact, I/O binding", ALL, "all.onnx", {"passes": BACKWARD}, (CUDA,)),
    "onnx_int8": Way(
        "ONNX artifact, int8", BACKWARD, "all_int8.onnx", {"passes": BACKWARD, "precision": "int8"}, (CPU,)
    ),
    "onnx_float16": Way(
        "ONNX artifact, float16", BACKWARD, "all_float16.onnx", {"passes": BACKWARD, "precision": "float16"}, (CUDA,)
    ),
    "onnx_attention": Way("ONNX, attention alone", ("attention",), "attention.onnx", {"passes": ()}, (CPU,)),
    "onnx_heatmap": Way("ONNX, plain artifact", ("relevance",), "heatmap.onnx", {"heatmaps": [METHOD]}, single=True),
    "torchscript": Way("TorchScript artifact", ALL, "all.pt", {"passes": BACKWARD}),
    "fused": Way("fused graph, eager", ALL, devices=(CPU,)),
    "lean": Way("reference, lean", ALL),
    "lean_half": Way("reference, lean, float16", ALL, devices=(CUDA,), half=True),
    "published": Way("reference, as published", BACKWARD),
    "published_half": Way("reference, as published, float16", BACKWARD, devices=(CUDA,), half=True),
}
"""By name. Attention as published is that of the lean reference."""
REFERENCES = tuple(name for name in WAYS if name.startswith(("lean", "published")))
"""These compute one class after another and share nothing, so the time for one tells that for ten."""
EXPORTED = tuple(name for name in WAYS if name.startswith("onnx"))
"""The files that the summary is about, and ways to run them."""
