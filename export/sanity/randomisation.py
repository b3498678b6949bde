"""The test of random parameters (Adebayo et al. 2018): maps of a model as more and more of its weights are random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from onnxplain.contract.errors import OnnxplainError, RunError
from onnxplain.contract.metadata import Metadata
from onnxplain.contract.validation import is_count
from onnxplain.evaluation.samples import Sample
from onnxplain.runtime import Explainer, Explanation
from onnxplain.runtime.methods.choice import Methods, call_methods, comparable_methods

from ..live import LiveArtifact, explainer_of
from ..models.backbones import Backbone
from .result import JUDGED, METRICS, SHIFTED, SanityResult
from .similarity import Map, check_installed, compare
from .steps import Step, randomise, steps_of

DRAWS = 10

Given = Mapping[str, Mapping[str, object]]
"""By method the parameters."""


def randomisation_test(
    backbone: Backbone,
    samples: Sequence[Sample],
    methods: Methods | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    device: str | None = None,
    data: str = "",
    progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
) -> SanityResult:
    """Compare the maps of a trained model with those of models with random weights, step by step from the head down.

    The weights of a step stay random in those that follow, so that after the last all are. Each map is explained for
    the class that the trained model sees, and compared in the resolution that its method has: over the patches, or
    for methods that explain pixels over the input.

    Args:
        backbone: A model with classes; it is left as it is.
        samples: The images.
        methods: As for ``Explainer.explain_all``; None for all that need a single run of the graph.
        draws: How often the weights are drawn, each time anew from the trained ones.
        seed: Of the random weights.
        device: As for ``explainer_of``.
        data: What the images are called in the result.
        progress: Called with what is being done, how many maps are, and of how many.

    Returns:
        What was measured; images that cannot be explained are among its errors.

    Raises:
        OnnxplainError: An argument is not valid, the model has no classes, or no image can be explained.
    """
    check_installed()
    if not is_count(draws):
        raise OnnxplainError(f"`draws` must be a whole number of at least 1, got {draws!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise OnnxplainError(f"`seed` must be a whole number of at least 0, got {seed!r}")
    if not backbone.has_classes:
        raise OnnxplainError(f"{backbone.name} has no classes to explain; give it a `head`")
    explainer = explainer_of(backbone, device)
    chosen = _chosen(methods, explainer.metadata)
    assert isinstance(explainer.artifact, LiveArtifact)
    steps = steps_of(explainer.artifact.graph)
    total = len(samples) * (1 + draws * len(steps))
    known: dict[str, _Known] = {}
    errors: dict[str, str] = {}
    for done, sample in enumerate(samples):
        progress("the trained model", done, total)
        try:
            found = explainer.explain_all(sample.image, methods=chosen)
        except OnnxplainError as error:
            errors[sample.name] = str(error)
        else:
            known[sample.name] = _Known(sample, found)
    if not known:
        reason = next(iter(errors.values()), "there is none")
        raise OnnxplainError(f"no image can be explained: {reason}")
    shape = draws, len(steps), len(known)
    values = {(method, metric): np.full(shape, np.nan) for method in chosen for metric in METRICS}
    values |= {(SHIFTED + method, metric): np.full(shape, np.nan) for method in chosen for metric in JUDGED}
    generator = torch.Generator().manual_seed(seed)
    done = len(samples)
    for draw in range(draws):
        for row, (step, model) in enumerate(random_models(backbone.model, steps, generator)):
            explainer = explainer_of(replace(backbone, model=model), device)
            for column, one in enumerate(known.values()):
                progress(f"draw {draw + 1} of {draws}, random down to {step.name}", done, total)
                rng = np.random.default_rng([seed, draw, row, column])
                for key, value in one.compared(explainer, chosen, rng):
                    values[key][draw, row, column] = value
                done += 1
    run = {
        "model": backbone.name, "source": backbone.source, "sha256": backbone.sha256, "data": data,
        "methods": {name: dict(given) for name, given in chosen.items()}, "draws": draws, "seed": seed,
    }  # fmt: skip
    targets = tuple(one.target for one in known.values())
    return SanityResult(run, tuple(step.name for step in steps), tuple(known), targets, values, errors)


def random_models(
    model: nn.Module, steps: Sequence[Step], generator: torch.Generator
) -> Iterator[tuple[Step, nn.Module]]:
    """After each step the model, which is a copy, with the weights of that step and those before it random."""
    model = copy.deepcopy(model)
    for step in steps:
        randomise(model, step.parameters, generator)
        yield step, model


class _Known:
    """One image, and the maps that the trained model has of it, by method."""

    def __init__(self, sample: Sample, explanations: Mapping[str, Explanation]) -> None:
        self.sample = sample
        self.target = next(iter(explanations.values())).target
        self.maps = {method: _map(each) for method, each in explanations.items()}

    def compared(
        self, explainer: Explainer, methods: Given, rng: np.random.Generator
    ) -> Iterator[tuple[tuple[str, str], float]]:
        """By method or yardstick, and metric, what the maps of another model have in common with these."""
        for method, one in self._explained(explainer, methods).items():
            trained, random = self.maps[method], _map(one)
            shifted = np.roll(random, [rng.integers(side // 4, 3 * side // 4 + 1) for side in random.shape], (0, 1))
            for metric, value in compare(trained, random, one.relative).items():
                yield (method, metric), value
            yardstick = compare(trained, shifted, one.relative)
            for metric in JUDGED:
                yield (SHIFTED + method, metric), yardstick[metric]

    def _explained(self, explainer: Explainer, methods: Given) -> dict[str, Explanation]:
        """By all methods; without those whose maps are not finite."""
        try:
            return explainer.explain_all(self.sample.image, self.target, methods=methods)
        except RunError:
            found: dict[str, Explanation] = {}
            for method, given in methods.items():
                try:
                    found |= explainer.explain_all(self.sample.image, self.target, methods={method: given})
                except RunError:
                    continue
            return found


def _chosen(methods: Methods | None, metadata: Metadata) -> dict[str, dict[str, object]]:
    if methods is None:
        methods = [method.name for method in comparable_methods(metadata)[0] if method.in_graph]
    return {call.key: dict(call.arguments) for call in call_methods(methods, metadata)}


def _map(explanation: Explanation) -> Map:
    """The map in the resolution that its method has."""
    return np.asarray(explanation.input_heatmap if explanation.pixel_level else explanation.tokens, np.float64)
