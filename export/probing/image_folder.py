"""Images in a folder for each class, in two parts: one to fit a head on, one to measure it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.data.class_folders import images_by_class
from onnxplain.evaluation.data.data_set import first_few

HELD_OUT = 0.2
"""The share of each class that is held out unless told otherwise."""
FEWEST = 2
"""Images of each class that are needed to fit on: one to learn from and one to choose the regularisation by."""


@dataclass(frozen=True)
class LabelledImages:
    """Image files.

    Attributes:
        paths: Of the files.
        classes: Of each, the index of its class.
    """

    paths: tuple[Path, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """Images to fit on and images held out, both with every class.

    Attributes:
        labels: The names of the classes, sorted.
        fitted: The images to fit on.
        held_out: The images to measure on.
        figures_skipped: How many files in the folders were skipped because they are figures that onnxplain made.
    """

    labels: tuple[str, ...]
    fitted: LabelledImages
    held_out: LabelledImages
    figures_skipped: int = 0


def split_images(
    data: str | Path, test: str | Path | None = None, held_out: float | None = None, seed: int = 0
) -> Split:
    """Find the images below data/<class>/ and hold some of them out.

    Names that begin with a dot are skipped, as are files without an image's suffix, and figures that the command
    explain has written.

    Args:
        data: A folder with a folder for each class.
        test: A folder like ``data`` with the same classes, whose images are those held out.
        held_out: The share of each class that is held out without ``test``, rounded, at least one image. By default
            0.2.
        seed: Of the random choice of these.

    Returns:
        Both parts.

    Raises:
        OnnxplainError: If a folder is not as described, there are fewer than two classes, or a class has too few
            images.
    """
    if test is not None and held_out is not None:
        raise OnnxplainError("`test` and `held_out` exclude each other; give one of them")
    share = HELD_OUT if held_out is None else held_out
    if not 0 < share < 1:
        raise OnnxplainError(f"`held_out` is a share between 0 and 1, got {share:g}")
    found, skipped = images_by_class(Path(data))
    labels = tuple(found)
    if len(labels) < 2:
        raise OnnxplainError(f"{data} has one class, {labels[0]}; a head tells at least two apart, each in its folder")
    if test is not None:
        measured, more = images_by_class(Path(test))
        skipped += more
        if measured.keys() != found.keys():
            odd = sorted(measured.keys() ^ found.keys())
            raise OnnxplainError(
                f"{data} and {test} must have folders of the same classes; only in one of them: {first_few(odd)}"
            )
        fitted = found
    else:
        rng = np.random.default_rng(seed)
        measured, fitted = {}, {}
        for label, paths in found.items():
            shuffled = [paths[index] for index in rng.permutation(len(paths))]
            count = max(1, round(share * len(paths)))
            measured[label], fitted[label] = sorted(shuffled[:count]), sorted(shuffled[count:])
    for label in labels:
        if len(fitted[label]) < FEWEST:
            without = "" if test is not None else f", without those held out {len(fitted[label])}"
            raise OnnxplainError(
                f"images of class {label} in {data}: {len(found[label])}{without}; at least {FEWEST} are needed to "
                "fit on"
            )
    return Split(labels, _labelled(fitted), _labelled(measured), skipped)


def without_unreadable(split: Split, unreadable: Mapping[Path, str]) -> Split:
    """The split without images that cannot be read; raises OnnxplainError if there are too few of a class then.

    Args:
        split: All images.
        unreadable: What is wrong with each that cannot be read.
    """
    fitted, held_out = _readable(split.fitted, unreadable), _readable(split.held_out, unreadable)
    for part, fewest, purpose in ((fitted, FEWEST, "fit"), (held_out, 1, "measure")):
        counts = np.bincount(part.classes, minlength=len(split.labels))
        short = int(counts.argmin())
        if counts[short] < fewest:
            raise OnnxplainError(
                f"images of class {split.labels[short]} that can be read: {counts[short]} to {purpose} on, of at "
                f"least {fewest}; {len(unreadable)} images cannot be read, such as: {next(iter(unreadable.values()))}"
            )
    return Split(split.labels, fitted, held_out, split.figures_skipped)


def _readable(images: LabelledImages, unreadable: Mapping[Path, str]) -> LabelledImages:
    kept = [index for index, path in enumerate(images.paths) if path not in unreadable]
    return LabelledImages(tuple(images.paths[index] for index in kept), tuple(images.classes[index] for index in kept))


def _labelled(images: dict[str, list[Path]]) -> LabelledImages:
    return LabelledImages(
        tuple(path for paths in images.values() for path in paths),
        tuple(index for index, paths in enumerate(images.values()) for _ in paths),
    )
