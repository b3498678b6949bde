"""Results of evaluations that never took place: of any shape, and with the scatter that real ones have."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxplain.evaluation.metrics.metric import Metric
from onnxplain.evaluation.results import OTHER_CLASS, YARDSTICKS, ImageResult, Measured, Results

SHARES = tuple(round(0.1 * number, 1) for number in range(10))
COSTS = {
    "rollout": 1.0, "raw_attention": 1.0, "attention_flow": 1.4, "grad_rollout": 2.0, "attention_gradcam": 2.0,
    "generic_attention": 2.1, "gmar": 2.1, "legrad": 2.6, "transformer_attribution": 5.1, "partial_lrp": 4.8,
    "full": 5.2, "last_layer": 4.7, "attnlrp": 4.1, "cp_lrp": 3.9, "gradient": 2.3, "input_x_gradient": 2.3,
    "integrated_gradients": 46.0, "smoothgrad": 46.0, "vit_reciprocam": 3.3, "rise": 4000.0, "gradcam": 2.0,
}  # fmt: skip
WITHOUT_CLASS = ("rollout", "raw_attention", "attention_flow")
LABELS = tuple(
    f"digit {name}" for name in ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
)


def _trapezoid(means: np.ndarray) -> np.ndarray:
    return 100 * np.asarray(np.trapezoid(means, dx=0.1, axis=-1))


def _ratio(means: np.ndarray) -> np.ndarray:
    return np.asarray(means[..., 0] / means[..., 1])


def row(name: str, better: str, summary: str = "a number", **rest: Any) -> Metric:
    """A metric that is never run."""
    return Metric(name, lambda judged: None, better, summary, "nobody, 2025", **rest)  # type: ignore[arg-type]


def _no_copies(*arguments: object) -> list[np.ndarray]:
    return []


CURVE: dict[str, Any] = {
    "combine": _trapezoid,
    "copies": _no_copies,
    "baseline": "black",
    "curve": SHARES,
    "axis": "share of pixels removed",
}
ROWS = {
    item.name: item
    for item in (
        row("perturbation_positive", "lower", "area under the hits, the highest pixels removed first", **CURVE),
        row("perturbation_negative", "higher", "area under the hits, the lowest pixels removed first", **CURVE),
        row("saco", "higher", "whether groups of pixels matter in the order of the map", copies=_no_copies),
        row("pointing_game", "higher", "whether the maximum lies on the object"),
        row("mass", "higher", "share of the positive map on the object", combine=_ratio),
        row("numerical_noise", "lower", "how much of the map is rounding"),
        row("random_logit", "lower", "how alike the maps of the class and of another are"),
        row("sparseness", "neither", "Gini index of the map"),
    )
}


def results_of(images: Sequence[Mapping[str, Any]], **rest: Any) -> Results:
    """Results from {"right": …, "measured": [(target, method, metric, parts), …]}, with what else Results have."""
    made = []
    for number, given in enumerate(images):
        measured = tuple(Measured(*item) for item in given["measured"])
        extra = {key: value for key, value in given.items() if key != "measured"}
        base = {"name": f"{number}.png", "right": True, "predicted": 0, "runs": 10, "seconds": 0.5}
        made.append(ImageResult(**{**base, **extra}, measured=measured))
    names = {item.method for image in made for item in image.measured}
    methods = sorted(name for name in names if name not in YARDSTICKS and not name.startswith(OTHER_CLASS))
    run = {
        "model": "model", "digest": "0" * 64, "data": "data", "methods": {name: {} for name in methods},
        "metrics": sorted({item.metric for image in made for item in image.measured}), "baselines": {},
        "target": "true", "seed": 0, "versions": {"onnxplain": "0.1.0"}, "labels": list(LABELS),
    }  # fmt: skip
    fields = {"errors": {}, "costs": {name: 1.0 for name in methods}, **rest}
    return Results(run={**run, **fields.pop("run", {})}, images=tuple(made), **fields)


def only(results: Results, *metrics: str) -> Results:
    """The results of these metrics."""
    images = (
        replace(image, measured=tuple(item for item in image.measured if item.metric in metrics))
        for image in results.images
    )
    return replace(results, images=tuple(images))


def realistic(images: int = 200, methods: Sequence[str] = tuple(COSTS), seed: int = 0) -> Results:
    """All methods and yardsticks on eight metrics: images differ much, methods less, some not at all."""
    draw = np.random.default_rng(seed)
    quality = dict(zip(methods, np.clip(draw.normal(0.55, 0.22, len(methods)), 0.05, 0.95), strict=True))
    quality |= {"random": 0.0, "constant": 0.0, "gaussian": 0.4}
    own = {OTHER_CLASS + name: 0.55 * quality[name] for name in methods if name not in WITHOUT_CLASS}
    made = []
    for number in range(images):
        hard = draw.normal(0, 0.15)
        right = bool(draw.random() < 0.82 - hard)
        measured = []
        for target in draw.choice(10, size=draw.integers(1, 4), replace=False):
            for name, good in {**quality, **own}.items():
                score = np.clip(good - hard + draw.normal(0, 0.12), 0, 1)
                measured += [(int(target), name, metric, parts) for metric, parts in _parts(score, draw).items()]
        made.append({
            "name": f"scenes/{number:04}.png", "measured": measured, "right": right, "predicted": int(target),
            "runs": 46 * 20, "seconds": 2.5, "agreement": float(np.clip(0.6 - hard + draw.normal(0, 0.1), -1, 1)),
        })  # fmt: skip
    run = {
        "model": "demo", "digest": "9f2c" * 16, "data": "the demo's scenes, 200 of them",
        "methods": {name: {"start_layer": 1} if name == "rollout" else {} for name in methods},
        "metrics": list(ROWS), "baselines": {"perturbation_positive": "black", "perturbation_negative": "black"},
        "versions": {"onnxplain": "0.1.0", "onnxruntime": "1.24.1", "numpy": "2.3.1"},
    }  # fmt: skip
    errors = {"scenes/0200.png": "scenes/0200.png cannot be read: it is damaged or no image"}
    return results_of(made, run=run, errors=errors, costs={name: COSTS[name] for name in methods})


def _parts(score: float, draw: np.random.Generator) -> dict[str, tuple[float, ...]]:
    """The parts of all metrics for a map of this quality, from 0 to 1."""
    shares = np.array(SHARES)
    fall, rise = np.exp(-shares * (1 + 7 * score)), 1 - shares ** (1 + 5 * score)
    object_mass = np.clip(0.15 + 0.6 * score + draw.normal(0, 0.05), 0, 1)
    return {
        "perturbation_positive": tuple((draw.random() < fall).astype(float).tolist()),
        "perturbation_negative": tuple((draw.random() < rise).astype(float).tolist()),
        "saco": (float(np.clip(0.7 * score + draw.normal(0, 0.25), -1, 1)),),
        "pointing_game": (float(draw.random() < 0.1 + 0.85 * score),),
        "mass": (float(object_mass), 1.0),
        "numerical_noise": (float(10 ** (-6 + 3 * score + draw.normal(0, 0.3))),),
        "random_logit": (float(np.clip(0.95 - 0.7 * score + draw.normal(0, 0.1), -1, 1)),),
        "sparseness": (float(np.clip(0.3 + 0.5 * score, 0, 1)),),
    }
