"""One image through an evaluation: its maps, the runs that the metrics ask for, and what they make of them."""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime.explanation import probabilities
from onnxplain.runtime.images.inputs import PreparedImage
from onnxplain.runtime.methods.calls import MethodCall
from onnxplain.runtime.pipeline import ByMethod

from .metrics.metric import Case, Copies, Heatmap, Judged, Metric, Pixels
from .metrics.similarity import agreement
from .model import Model
from .plan import Plan
from .results import OTHER_CLASS, ImageResult, Measured
from .samples import OBJECT, Sample, to_input
from .yardsticks import MAPS

NO_LOGITS: NDArray[np.float32] = np.zeros((0, 0), np.float32)


def evaluate_image(model: Model, plan: Plan, sample: Sample, image: PreparedImage) -> ImageResult:
    """Measure all methods on one image.

    Args:
        model: The model.
        plan: What is measured.
        sample: The image's classes and regions.
        image: The image itself.

    Raises:
        OnnxplainError: If the image has no class to explain, a mask cannot be read, or a run fails.
    """
    started, runs_before = time.perf_counter(), model.runs
    (logits,) = model.logits([image.input])
    predicted = int(logits.argmax())
    targets = _targets(plan, sample, predicted, len(logits))
    others = [_other_class(target, targets, logits) for target in targets]
    classes = list(dict.fromkeys([*targets, *(other for other in others if other is not None)]))
    name = f"{plan.seed} {sample.name}".encode(errors="surrogatepass")  # that of a file need not be valid text
    seed = zlib.crc32(name)
    activation = partial(probabilities, metadata=model.metadata)
    case = Case(image.input, logits, activation, model.metadata.preprocessing, model.metadata.patch_grid, seed)
    (explained,) = model.explain([image], plan.calls, classes)
    maps = _Maps(model, plan, case, classes, explained)
    candidates = [
        candidate
        for target, other in zip(targets, others, strict=True)
        for candidate in maps.candidates(target, other, _mask(sample, image, target))
    ]
    logits_of = _run_copies(model, plan, candidates)
    measured = []
    for candidate in candidates:
        for metric in filter(candidate.suits, plan.metrics):
            answers = logits_of.get(candidate.copies(metric, plan), NO_LOGITS)
            parts = metric.function(replace(candidate.judged, logits=answers))
            if parts is not None:
                target, method = candidate.judged.target, candidate.judged.method
                measured.append(Measured(target, method, metric.name, tuple(map(float, parts))))
    return ImageResult(
        name=sample.name,
        right=predicted in sample.labels if sample.labels else None,
        predicted=predicted,
        measured=tuple(measured),
        runs=model.runs - runs_before,
        seconds=time.perf_counter() - started,
        agreement=agreement([explanations[0].tokens for explanations in explained.values()]),
    )


class _MapKey(NamedTuple):
    """Which of an image's maps: that of a method, or a yardstick, for a class; None where all classes have the same."""

    name: str
    target: int | None


CopiesKey = tuple[Copies, str, _MapKey | None]
"""Which copies of the input: what makes them, with which baseline, of which map; None where all have the same."""


@dataclass(frozen=True)
class _Candidate:
    """A map, and the class that it is judged for.

    Attributes:
        key: Which map.
        judged: What metrics are given, still without logits.
    """

    key: _MapKey
    judged: Judged

    def suits(self, metric: Metric) -> bool:
        """Whether the metric applies.

        A map of another class is measured where the class that it is judged for counts. A yardstick is not where
        robustness is: it does not change with the input.
        """
        method = self.judged.method
        if metric.only and method not in metric.only:
            return False
        if method.startswith(OTHER_CLASS) and metric.copies is None and "mask" not in metric.needs:
            return False
        if method in MAPS and metric.copies is None and "maps" in metric.needs:
            return False
        return all(getattr(self.judged, need) is not None for need in metric.needs)

    def copies(self, metric: Metric, plan: Plan) -> CopiesKey | None:
        """The copies whose logits the metric reads; None if it reads none."""
        if metric.copies is None:
            return None
        return metric.copies, plan.baselines.get(metric.name, ""), self.key if metric.copies_per_map else None


class _Maps:
    """The maps of one image for all methods and classes, and those of inputs that are made of it."""

    def __init__(self, model: Model, plan: Plan, case: Case, classes: Sequence[int], explained: ByMethod) -> None:
        self._model, self._case, self._classes, self._explained = model, case, classes, explained
        self._calls: Mapping[str, MethodCall] = {call.key: call for call in plan.calls}
        self._yardsticks = {name: make(case) for name, make in MAPS.items()}
        self._shared: dict[str, list[ByMethod]] = {}

    def candidates(self, target: int, other: int | None, mask: NDArray[np.uint8] | None) -> Iterator[_Candidate]:
        """What is judged for a class: each method's map, the yardsticks, and each method's map for the other class."""
        for name, call in self._calls.items():
            yield self._candidate(name, call, target, target, other, mask)
        for name, heatmap in self._yardsticks.items():
            yield self._yardstick(name, heatmap, target, mask)
        if other is not None:
            for name, call in self._calls.items():
                if call.method.per_target:
                    yield self._candidate(OTHER_CLASS + name, call, target, other, target, mask)

    def _candidate(
        self, name: str, call: MethodCall, target: int, of: int, other: int | None, mask: NDArray[np.uint8] | None
    ) -> _Candidate:
        """The method's map of class `of`, judged for `target`; `other` is the class whose map it is compared with."""
        method = call.method

        def heatmap(results: ByMethod, place: int) -> Heatmap:
            return results[call.key][place].input_heatmap

        def shared_maps(purpose: str, make: Callable[[], Sequence[Pixels]]) -> list[Heatmap]:
            place = self._classes.index(of)
            return [heatmap(results, place) for results in self._of_inputs(purpose, make)]

        def own_maps(inputs: Sequence[Pixels]) -> list[Heatmap]:
            return [heatmap(results, 0) for results in self._model.explain_pixels(inputs, [call], [of])]

        compared = self._classes.index(other) if other is not None and method.per_target else None
        judged = Judged(
            case=self._case,
            heatmap=heatmap(self._explained, self._classes.index(of)),
            target=target,
            method=name,
            logits=NO_LOGITS,
            mask=mask,
            other=None if compared is None else heatmap(self._explained, compared),
            maps=None if method.runs else shared_maps,
            own_maps=None if method.runs else own_maps,
        )
        return _Candidate(_MapKey(call.key, of if method.per_target else None), judged)

    def _yardstick(self, name: str, heatmap: Heatmap, target: int, mask: NDArray[np.uint8] | None) -> _Candidate:
        """A yardstick's map, which is the same for all inputs."""

        def repeated(inputs: Sequence[Pixels]) -> list[Heatmap]:
            return [heatmap] * len(inputs)

        judged = Judged(
            self._case, heatmap, target, name, NO_LOGITS, mask, None, lambda _, make: repeated(make()), repeated
        )
        return _Candidate(_MapKey(name, None), judged)

    def _of_inputs(self, purpose: str, make: Callable[[], Sequence[Pixels]]) -> list[ByMethod]:
        """The maps of these inputs for all classes, by the methods of a single run."""
        if purpose not in self._shared:
            calls = [call for call in self._calls.values() if not call.method.runs]
            self._shared[purpose] = list(self._model.explain_pixels(make(), calls, self._classes))
        return self._shared[purpose]


def _targets(plan: Plan, sample: Sample, predicted: int, classes: int) -> list[int]:
    """The classes that the image's maps are judged for."""
    if plan.target == "predicted":
        return [predicted]
    if not sample.labels:
        raise OnnxplainError(
            "the class that it shows is not known; put it into a folder with the name of its class, or explain the "
            "predicted class with `target='predicted'`"
        )
    foreign = [label for label in sample.labels if not 0 <= label < classes]
    if foreign:
        raise OnnxplainError(f"its labels must be classes of the artifact, 0 to {classes - 1}, got {foreign[0]}")
    return list(dict.fromkeys(sample.labels))


def _other_class(target: int, targets: Sequence[int], logits: NDArray[np.float32]) -> int | None:
    """A class to compare with: the next that the image shows, else the most probable other one, else none."""
    if len(targets) > 1:
        return targets[(targets.index(target) + 1) % len(targets)]
    ranking = [int(index) for index in np.argsort(-logits, kind="stable")[:2] if index != target]
    return ranking[0] if ranking else None


def _mask(sample: Sample, image: PreparedImage, target: int) -> NDArray[np.uint8] | None:
    """Where the class's objects are in the model's input; None if that is not known, or preprocessing cut them off."""
    region = sample.regions.get(target)
    if region is None:
        return None
    mask = to_input(region.mask(image.placement.original), image.placement)
    return mask if (mask == OBJECT).any() else None


def _run_copies(
    model: Model, plan: Plan, candidates: Iterable[_Candidate]
) -> dict[CopiesKey | None, NDArray[np.float32]]:
    """The logits [copies, classes] of all copies that the metrics read, in batches that go across metrics and maps."""
    wanted: dict[CopiesKey, Iterable[Pixels]] = {}
    for candidate in candidates:
        for metric in filter(candidate.suits, plan.metrics):
            key = candidate.copies(metric, plan)
            if key is not None and key not in wanted:
                make, baseline, _ = key
                wanted[key] = make(candidate.judged.case, candidate.judged.heatmap, baseline)
    found: dict[CopiesKey | None, list[NDArray[np.float32]]] = {key: [] for key in wanted}
    order: list[CopiesKey] = []  # of which each input is, noted as they are taken

    def inputs() -> Iterator[Pixels]:
        for key, copies in wanted.items():
            for copy in copies:
                order.append(key)
                yield copy

    for place, logits in enumerate(model.logits(inputs())):
        found[order[place]].append(logits)
    return {key: np.stack(rows) if rows else NO_LOGITS for key, rows in found.items()}
