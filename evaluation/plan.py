"""What is to be measured: the arguments of an evaluation, checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.names import no_such
from onnxplain.contract.validation import is_int
from onnxplain.runtime.methods.calls import MethodCall
from onnxplain.runtime.methods.choice import Methods, call_methods

from .metrics.metric import Metric
from .metrics.noisy_linear import solver
from .metrics.removal import BASELINES
from .metrics.table import METRICS

TARGETS = ("true", "predicted")


@dataclass(frozen=True)
class Plan:
    """One evaluation, with valid arguments.

    Attributes:
        calls: The methods, each with its arguments.
        metrics: Rows of METRICS.
        baselines: What replaces removed pixels, by the names of the metrics that remove any by choice.
        target: One of TARGETS.
        seed: Of all that is random.
    """

    calls: tuple[MethodCall, ...]
    metrics: tuple[Metric, ...]
    baselines: Mapping[str, str]
    target: str
    seed: int


def make_plan(
    metadata: Metadata,
    methods: Methods | None,
    metrics: Sequence[str] | None,
    target: str,
    baseline: str | None,
    seed: int,
) -> Plan:
    """Check the arguments of `evaluate`, which describes them; raises OnnxplainError where one is not valid."""
    if metadata.input != "pixels":
        raise OnnxplainError(
            f"this artifact takes an {metadata.input}, and an evaluation changes pixels: export it with "
            "`input='pixels'`"
        )
    if metrics is not None and (isinstance(metrics, str) or not metrics):
        raise OnnxplainError(f"`metrics` must be a list of names, or None for the default ones, got {metrics!r}")
    names = [row.name for row in METRICS.values() if row.default] if metrics is None else list(dict.fromkeys(metrics))
    for name in names:
        if name not in METRICS:
            raise OnnxplainError(no_such("metric", name, METRICS))
    chosen = tuple(METRICS[name] for name in names)
    if target not in TARGETS:
        raise OnnxplainError(no_such("target", target, TARGETS))
    if baseline is not None and baseline not in BASELINES:
        raise OnnxplainError(no_such("baseline", baseline, BASELINES))
    if not is_int(seed, 0, math.inf):
        raise OnnxplainError(f"`seed` must be a whole number of at least 0, got {seed!r}")
    calls = tuple(call_methods(methods, metadata))
    baselines = {row.name: baseline or row.baseline for row in chosen if row.baseline}
    if "noisy-linear" in baselines.values():
        solver()  # before hours of work
    return Plan(calls, chosen, baselines, target, seed)


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it; `described` makes the plan of it again."""
    return {
        "methods": {call.key: dict(call.arguments) for call in plan.calls},
        "metrics": [metric.name for metric in plan.metrics],
        "baselines": dict(plan.baselines),
        "target": plan.target,
        "seed": plan.seed,
    }


def described(fields: Mapping[str, Any], metadata: Metadata) -> Plan:
    """The plan that `describe` describes, for an artifact with the same metadata.

    Raises:
        OnnxplainError: If a metric is not in the table, as one that another process has added.
    """
    for name in fields["metrics"]:
        if name not in METRICS:
            raise OnnxplainError(f"the metric {name!r} was added to METRICS in one process only; use `jobs` 1")
    calls = call_methods(fields["methods"], metadata)
    chosen = tuple(METRICS[name] for name in fields["metrics"])
    return Plan(calls, chosen, fields["baselines"], fields["target"], fields["seed"])
