"""An evaluation: many images, in this process or in several, with results kept image by image."""

import os
import platform
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from onnxplain.contract.digest import stored_digest
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.validation import is_count
from onnxplain.runtime import Explainer
from onnxplain.runtime.images.inputs import PreparedImage, prepare
from onnxplain.runtime.images.loading import MAX_PIXELS
from onnxplain.runtime.images.prefetch import prefetch
from onnxplain.runtime.methods.choice import Methods
from onnxplain.runtime.outcome import Outcome

from .cost import measure_costs
from .data.data_set import DataSet
from .model import Model
from .one_image import evaluate_image
from .plan import Plan, describe, described, make_plan
from .results import ImageResult, Results
from .samples import Sample
from .store import Store

AHEAD = 2
"""How many images are read ahead; with several processes, how many wait for each of them."""

Progress = Callable[[int, int, int], object]
"""Called as progress(done, total, runs) after each image: how many are done, and the logits-only runs that took."""


def evaluate(
    explainer: Explainer,
    samples: Sequence[Sample],
    methods: Methods | None = None,
    metrics: Sequence[str] | None = None,
    *,
    target: str = "true",
    baseline: str | None = None,
    seed: int = 0,
    jobs: int = 1,
    output: str | Path | None = None,
    data: str = "",
    progress: Progress | None = None,
) -> Results:
    """Measure explanation methods on images.

    Beside the methods the yardsticks are measured: a random, a constant and a Gaussian map, and each method's map for
    another class.

    Args:
        explainer: An open artifact that takes pixels.
        samples: The images, with their classes and the places of these as far as they are known.
        methods: As for `Explainer.explain_all`; None for those of `comparable_methods`.
        metrics: Names in METRICS; None for those that are default there.
        target: The class that maps are made and judged for: "true", each class that the image shows, or "predicted",
            the top-1 class.
        baseline: What replaces removed pixels, a name in BASELINES; None for each metric's own.
        seed: Of what is random: yardsticks, the order of ties, noise.
        jobs: How many processes work side by side. Each opens the artifact with the explainer's own `threads`.
        output: A folder for the results, which are kept there as each image is done; if it has results of the same
            evaluation, these are not computed again. None for memory alone.
        data: What the data are called in the results.
        progress: Told after each image.

    Returns:
        What was measured; an image that could not be is among its `errors`.

    Raises:
        OnnxplainError: If an argument is not valid, no image could be evaluated, or the folder holds results of
            another evaluation.
    """
    plan = make_plan(explainer.metadata, methods, metrics, target, baseline, seed)
    if not is_count(jobs):
        raise OnnxplainError(f"`jobs` must be a whole number of at least 1, got {jobs!r}")
    names = list(samples.names if isinstance(samples, DataSet) else (sample.name for sample in samples))
    if not names:
        raise OnnxplainError("there are no images to evaluate on")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OnnxplainError(f"two samples are called {twice!r}; give each a name of its own")
    run = _description(explainer, plan, data)
    store = Store(None if output is None else Path(output), run)
    worker = _Worker(Model(explainer.artifact), plan, samples)
    if not store.costs:
        store.add_costs(worker.costs())
    todo = [place for place, name in enumerate(names) if name not in store.images]
    done, runs = len(names) - len(todo), sum(store.images[name].runs for name in names if name in store.images)
    outcomes = worker.evaluate(todo) if jobs == 1 else _in_processes(explainer, plan, samples, todo, jobs)
    for place, outcome in outcomes:
        if outcome.error is not None:
            store.errors[names[place]] = str(outcome.error)
        else:
            store.add(outcome.value)
            runs += outcome.value.runs
        done += 1
        if progress is not None:
            progress(done, len(names), runs)
    found = tuple(store.images[name] for name in names if name in store.images)
    if not found:
        name, error = next(iter(store.errors.items()))
        raise OnnxplainError(f"none of the {len(names)} images could be evaluated; {name}: {error}")
    errors = {name: store.errors[name] for name in names if name in store.errors}
    return Results(run | _environment(), found, errors, store.costs)


def _description(explainer: Explainer, plan: Plan, data: str) -> dict[str, Any]:
    """What decides the results."""
    metadata = explainer.metadata
    return {
        "model": metadata.model,
        "digest": _digest(explainer),
        "data": data,
        "labels": list(metadata.labels),
        **describe(plan),
    }


def _environment() -> dict[str, Any]:
    """What the results do not depend on but for rounding."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("onnxruntime", "numpy", "pillow")}
    return {"versions": {"onnxplain": version("onnxplain"), "python": platform.python_version(), **packages}}


def _digest(explainer: Explainer) -> str | None:
    return None if explainer.path is None else stored_digest(explainer.path)


_Ready = tuple[Sample, PreparedImage]


class _Worker:
    """What evaluates images, by their places in the data."""

    def __init__(self, model: Model, plan: Plan, samples: Sequence[Sample]) -> None:
        self._model, self._plan, self._samples = model, plan, samples

    def costs(self) -> dict[str, float]:
        """What each method costs, measured on the first image that can be read."""
        for place in range(len(self._samples)):
            ready = Outcome.of(self._read, place)
            if ready.error is None:
                return measure_costs(self._model, self._plan.calls, ready.value[1])
        return {}

    def evaluate(self, places: Iterable[int]) -> Iterator[tuple[int, Outcome[ImageResult]]]:
        """Evaluate one image after the other, while the next ones are read."""
        ahead = prefetch(lambda place: (place, Outcome.of(self._read, place)), places, AHEAD)
        return ((place, ready.then(self._measure)) for place, ready in ahead)

    def _read(self, place: int) -> _Ready:
        sample = self._samples[place]
        return sample, prepare(sample.image, self._model.metadata, MAX_PIXELS)

    def _measure(self, ready: _Ready) -> ImageResult:
        return evaluate_image(self._model, self._plan, *ready)


def _in_processes(
    explainer: Explainer, plan: Plan, samples: Sequence[Sample], places: Sequence[int], jobs: int
) -> Iterator[tuple[int, Outcome[ImageResult]]]:
    """The results as they come, in any order, so that as few as possible are lost with an interruption."""
    context = get_context("spawn")  # a forked process would share locks that onnxruntime's threads hold
    pool = ProcessPoolExecutor(jobs, context, _start_worker, (explainer, describe(plan), samples))
    waiting: set[Future[tuple[int, Outcome[ImageResult]]]] = set()
    rest = iter(places)
    try:
        while True:
            waiting |= {pool.submit(_work, place) for place in islice(rest, AHEAD * jobs - len(waiting))}
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise OnnxplainError(
            "one of the processes was ended, as happens when memory runs out: use fewer `jobs`; or, in Python, where "
            "a script is without if __name__ == '__main__', so that each process runs all of it again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker: _Worker


def _start_worker(explainer: Explainer, plan: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the process that waits for this one
    Thread(target=_end_with_parent, daemon=True).start()
    _worker = _Worker(Model(explainer.artifact), described(plan, explainer.metadata), samples)


def _end_with_parent() -> None:
    """Without this a worker would wait for work for ever when the process that started it is killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(place: int) -> tuple[int, Outcome[ImageResult]]:
    return next(_worker.evaluate([place]))
