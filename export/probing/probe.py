"""Linear probing: a head for classes of one's own, fitted on a model's features of images.

As in MAE's linear probing (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2021, appendix A.1) the
features are standardised by a batch norm without weights. The linear layer is fitted with scikit-learn's logistic
regression, which needs no learning rate and converges to the least loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onnxplain.contract import OnnxplainError

from ..atomic_files import atomic_file
from ..models.backbones import Backbone
from ..models.heads import Head, read_head, write_head
from .feature_cache import FeatureStore, Progress
from .image_folder import Split, without_unreadable

INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The values of C that are tried, strongest regularisation first."""
FOLDS = 3
"""Of the cross-validation."""
EPSILON = 1e-6
"""Added to the variance of each feature, as MAE does, so that one that hardly varies is not divided by zero."""
ITERATIONS = 2000
"""Of the solver, at most."""
SEED = 0
"""Of the folds."""


@dataclass(frozen=True)
class ProbeReport:
    """How a head was found and how good it is.

    Attributes:
        labels: The names of the classes.
        C: The inverse strength of the regularisation.
        tried: For each C that it was chosen from, the mean accuracy on the folds; empty if C was given.
        fitted: How many images the head was fitted on.
        correct: For each class, how many of the images held out the written head gets right.
        held_out: For each class, how many images were held out.
        repeated: How many of those held out are also, byte for byte, among those fitted on.
        cache: The file of features.
        computed: How many features were not in it.
        skipped: For each image that cannot be read, and was left out, what is wrong with it.
    """

    labels: tuple[str, ...]
    C: float
    tried: dict[float, float]
    fitted: int
    correct: tuple[int, ...]
    held_out: tuple[int, ...]
    repeated: int
    cache: Path
    computed: int
    skipped: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """The share of the images held out that the head gets right."""
        return sum(self.correct) / sum(self.held_out)


def probe(
    backbone: Backbone,
    split: Split,
    path: str | Path,
    C: float | None = None,
    cache: str | Path | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> ProbeReport:
    """Fit a head on ``split.fitted``, write it, and measure what was written on ``split.held_out``.

    Images that cannot be read are left out, and the report names them.

    Args:
        backbone: From ``load_features``.
        split: From ``split_images``.
        path: The head, .safetensors, to be given to ``load_backbone`` with the same model; replaced if it exists.
        C: Inverse strength of the L2 regularisation, as in scikit-learn. By default the best of INVERSE_STRENGTHS by
            cross-validation on the images to fit on.
        cache: A file that keeps the features, by default beside ``path``, its name ending with .features.safetensors.
        progress: Called with the stage, how much of it is done, and how much there is to do.

    Returns:
        How the head was found and how good it is.

    Raises:
        OnnxplainError: If scikit-learn is missing, too few images of a class can be read or an argument is not valid.
            No head is written then.
    """
    if backbone.pooling is None:
        raise OnnxplainError(f"a head is fitted on features, and {backbone.name} gives classes: use load_features")
    path = Path(path)
    cache = path.with_suffix(".features.safetensors") if cache is None else Path(cache)
    _check_arguments(path, C, cache)
    linear_model, model_selection = _scikit_learn()
    store = FeatureStore(backbone, cache)
    found = store.features([*split.fitted.paths, *split.held_out.paths], progress)
    split = without_unreadable(split, found.unreadable)
    features, held_out = (
        np.stack([found.features[path] for path in part.paths]) for part in (split.fitted, split.held_out)
    )
    mean, std = features.mean(0, dtype=np.float64), np.sqrt(features.var(0, dtype=np.float64) + EPSILON)
    standardised, classes = (features - mean) / std, np.array(split.fitted.classes)

    def regression(C: float) -> Any:
        return linear_model.LogisticRegression(C=C, max_iter=ITERATIONS)

    tried = {}
    if C is None:
        folds = min(FOLDS, int(np.bincount(classes).min()))
        splitter = model_selection.StratifiedKFold(folds, shuffle=True, random_state=SEED)
        for done, value in enumerate(INVERSE_STRENGTHS):
            progress(f"trying C = {value:g}", done, len(INVERSE_STRENGTHS))
            scores = model_selection.cross_val_score(regression(value), standardised, classes, cv=splitter)
            tried[value] = float(scores.mean())
        C = max(tried, key=tried.__getitem__)  # of equals the first, which is the most regularised
    progress(f"fitting with C = {C:g}", 0, 1)
    fitted = regression(C).fit(standardised, classes)
    head = _head(fitted, mean, std, backbone.pooling, split.labels)
    with atomic_file(path) as temporary:
        write_head(temporary, head)
        with torch.inference_mode():
            predictions = read_head(temporary).linear()(torch.from_numpy(held_out)).argmax(1).numpy()
    known = {found.checksums[path] for path in split.fitted.paths}
    truth, count = np.array(split.held_out.classes), len(split.labels)
    return ProbeReport(
        labels=split.labels,
        C=C,
        tried=tried,
        fitted=len(features),
        correct=tuple(np.bincount(truth[predictions == truth], minlength=count).tolist()),
        held_out=tuple(np.bincount(truth, minlength=count).tolist()),
        repeated=sum(found.checksums[path] in known for path in split.held_out.paths),
        cache=cache,
        computed=store.computed,
        skipped=tuple(found.unreadable.values()),
    )


def _check_arguments(path: Path, C: float | None, cache: Path) -> None:
    if path.suffix != ".safetensors":
        raise OnnxplainError(f"a head is written as .safetensors, got {path}")
    if C is not None and not 0 < C < float("inf"):
        raise OnnxplainError(f"`C` must be a positive number, got {C:g}")
    if cache.resolve() == path.resolve():
        raise OnnxplainError(f"the head and the cache cannot both be {path}")


def _scikit_learn() -> tuple[Any, Any]:
    try:
        from sklearn import linear_model, model_selection
    except ImportError as error:
        raise OnnxplainError(f"probing needs {error.name}: pip install 'onnxplain[probe]'") from error
    return linear_model, model_selection


def _head(
    fitted: Any, mean: NDArray[np.float64], std: NDArray[np.float64], pooling: str, labels: tuple[str, ...]
) -> Head:
    """A fitted regression as a head."""
    weight, bias = fitted.coef_, fitted.intercept_
    if len(labels) == 2:  # scikit-learn gives one logit then, of the second class over the first
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Head(_tensor(weight), _tensor(bias), _tensor(mean), _tensor(std), pooling, labels)


def _tensor(array: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()
