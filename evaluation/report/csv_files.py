"""What was measured and what is told of it, as CSV files."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onnxplain.evaluation.metrics.metric import Metric
from onnxplain.evaluation.results import OTHER_CLASS, Results
from onnxplain.evaluation.statistics import Statistics, Verdict

RESULTS = ("image", "target", "method", "metric", "value", "label", "right", "predicted")
SCORES = ("method", "metric", "subset", "value", "low", "high", "images", "maps", "rank", "better", "cost")
MARKS: dict[str, Verdict] = {"cannot_be_told_from": "cannot be told", "worse_than": "worse"}
COMPARISONS = ("method", "other", "metric", "subset", "difference", "low", "high", "images", "verdict")


def write_results(path: Path, results: Results, metrics: Mapping[str, Metric]) -> None:
    """One row for each image, target, method and metric."""
    labels = results.run["labels"]
    _write(
        path,
        RESULTS,
        (
            (
                image.name,
                item.target,
                item.method,
                item.metric,
                metrics[item.metric].value(item.parts),
                labels[item.target],
                "" if image.right is None else str(image.right).lower(),
                image.predicted,
            )
            for image in results.images
            for item in image.measured
        ),
    )


def write_scores(path: Path, found: Statistics, metrics: Mapping[str, Metric], costs: Mapping[str, float]) -> None:
    """One row for each subset of the images, metric and method, with the yardsticks that it cannot be told from."""
    rows = []
    for (subset, metric, method), score in found.scores.items():
        verdicts = found.verdicts(subset, metric, method)
        numbers = (score.value, score.low, score.high, score.images, score.maps, score.rank)
        marks = (
            " ".join(name.replace(OTHER_CLASS, "other_class") for name, verdict in verdicts.items() if verdict == what)
            for what in MARKS.values()
        )
        rows.append((method, metric, subset, *numbers, metrics[metric].better, costs.get(method), *marks))
    _write(path, (*SCORES, *MARKS), rows)


def write_comparisons(path: Path, found: Statistics) -> None:
    """One row for each subset of the images, metric, method, and other method or yardstick."""
    _write(
        path,
        COMPARISONS,
        (
            (method, other, metric, subset, item.difference, item.low, item.high, item.images, item.verdict)
            for (subset, metric, method, other), item in found.comparisons.items()
        ),
    )


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    # A file's name need not be valid text
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
