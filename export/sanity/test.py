"""The test: maps of the trained model beside those of the model with more and more random weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError, RunError
from onnxplain.evaluation.samples import Sample
from onnxplain.runtime import Explainer, Explanation
from onnxplain.runtime.methods.choice import call_methods, comparable_methods

from ..live import explainer_of
from ..models.backbones import Backbone
from .similarity import Map, entropy, spearman, ssim
from .steps import randomise, steps_of

METRICS = ("spearman", "spearman_absolute", "ssim", "emprt")
"""What is measured of each map of a model with random weights, beside the trained model's map of the same image."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class SanityResult:
    """What was measured.

    Attributes:
        run: What was run, as JSON has it.
        steps: The names of the steps, from the head down.
        pictures: The names of the images.
        targets: The class that each was explained for: the trained model's top-1 class.
        values: By method and metric, float64 [steps, images]; NaN where a model with random weights has no map.
        others: By method and metric, what two maps of the trained model have in common that are of different images,
            [images]: each with the next one's.
        errors: By the sample's name, why it could not be explained.
    """

    run: Mapping[str, Any]
    steps: tuple[str, ...]
    pictures: tuple[str, ...]
    targets: tuple[int, ...]
    values: Mapping[tuple[str, str], Values]
    others: Mapping[tuple[str, str], Values]
    errors: Mapping[str, str]


def sanity(
    backbone: Backbone,
    samples: Sequence[Sample],
    methods: Sequence[str] | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> SanityResult:
    passes = None
    backbone = replace(backbone, model=copy.deepcopy(backbone.model))
    explainer = explainer_of(backbone, device)
    if methods is None:
        methods = [each.name for each in comparable_methods(explainer.metadata)[0] if each.in_graph]
    trained, targets, pictures, errors = {}, [], [], {}
    usable = []
    for number, sample in enumerate(samples):
        progress("trained", number, len(samples))
        try:
            found = explainer.explain_all(sample.image, methods=methods)
        except OnnxplainError as error:
            errors[sample.name] = str(error)
            continue
        target = next(iter(found.values())).target
        usable.append(sample); targets.append(target); pictures.append(sample.name)
        trained[sample.name] = {name: _map(each) for name, each in found.items()}
    steps = steps_of(explainer.artifact.graph)
    generator = torch.Generator().manual_seed(seed)
    values = {(method, metric): np.full((len(steps), len(usable)), np.nan) for method in methods for metric in METRICS}
    for row, step in enumerate(steps):
        randomise(backbone.model, step.parameters, generator)
        explainer = explainer_of(backbone, device)
        for column, sample in enumerate(usable):
            progress(step.name, column, len(usable))
            for method, one in _maps(explainer, sample, targets[column], methods).items():
                for metric, value in compared(trained[sample.name][method], _map(one), one.relative).items():
                    values[method, metric][row, column] = value
    others = {}
    for method in methods:
        rows = [compared(trained[a][method], trained[b][method], False) for a, b in zip(pictures, pictures[1:] + pictures[:1])]
        for metric in METRICS:
            others[method, metric] = np.array([r[metric] for r in rows])
    return SanityResult({}, tuple(s.name for s in steps), tuple(pictures), tuple(targets), values, others, errors)


def compared(trained: Map, random: Map, relative: bool) -> dict[str, float]:
    sizes = [each - each.min() if relative else np.abs(each) for each in (trained, random)]
    h = entropy(trained)
    return dict(zip(METRICS, (spearman(trained, random), spearman(*sizes), ssim(*sizes), (entropy(random) - h) / h if h else np.nan)))


def _maps(explainer, sample, target, methods):
    try:
        return explainer.explain_all(sample.image, target, methods=methods)
    except RunError:
        found = {}
        for method in methods:
            try:
                found[method] = explainer.explain(sample.image, target, method)
            except RunError as e:
                print("NONE", method, e)
        return found


def _map(one: Explanation) -> Map:
    return np.asarray(one.input_heatmap if one.pixel_level else one.tokens, np.float64)
