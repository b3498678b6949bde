"""Pictures in a folder for each class, in two parts: one to fit a head on, one to measure it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxplain.contract import OnnxplainError
from onnxplain.runtime.images.loading import IMAGE_SUFFIXES
from onnxplain.runtime.signature import is_signed

HELD_OUT = 0.2
"""The share of each class that is held out unless told otherwise."""
FEWEST = 2
"""Of each class to fit on: one to learn from and one to choose the regularisation by."""


@dataclass(frozen=True)
class Pictures:
    """Picture files and the index of each one's class."""

    paths: tuple[Path, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """Pictures to fit on and pictures held out, both with every class.

    labels: the names of the classes, sorted. ours: how many files were passed over as onnxplain made them.
    """

    labels: tuple[str, ...]
    fitted: Pictures
    held_out: Pictures
    ours: int = 0


def split_pictures(
    data: str | Path, test: str | Path | None = None, held_out: float | None = None, seed: int = 0
) -> Split:
    """The pictures below data/<class>/, in two parts.

    test: a folder like ``data``, with the same classes, whose pictures are those held out. Without it, a share
    ``held_out`` of each class is (0.2 by default, rounded, at least one picture), drawn at random by ``seed``.
    Names that begin with a dot are passed over, as are files that do not end as pictures do, and overlays that the
    command explain has written.
    Raises OnnxplainError if a folder is not as described, there are fewer than two classes, or a class has too few
    pictures.
    """
    if test is not None and held_out is not None:
        raise OnnxplainError("`test` and `held_out` exclude each other; give one of them")
    share = HELD_OUT if held_out is None else held_out
    if not 0 < share < 1:
        raise OnnxplainError(f"`held_out` is a share between 0 and 1, got {share:g}")
    found, ours = _classes(Path(data))
    labels = tuple(found)
    if len(labels) < 2:
        raise OnnxplainError(f"{data} has one class, {labels[0]}; a head tells at least two apart, each in its folder")
    if test is not None:
        apart, more = _classes(Path(test))
        ours += more
        if apart.keys() != found.keys():
            odd = sorted(apart.keys() ^ found.keys())
            raise OnnxplainError(
                f"{data} and {test} must have folders of the same classes; only in one of them: {_few(odd)}"
            )
        rest = found
    else:
        rng = np.random.default_rng(seed)
        apart, rest = {}, {}
        for label, paths in found.items():
            shuffled = [paths[index] for index in rng.permutation(len(paths))]
            count = max(1, round(share * len(paths)))
            apart[label], rest[label] = sorted(shuffled[:count]), sorted(shuffled[count:])
    for label in labels:
        if len(rest[label]) < FEWEST:
            without = "" if test is not None else f", without those held out {len(rest[label])}"
            raise OnnxplainError(
                f"pictures of class {label} in {data}: {len(found[label])}{without}; at least {FEWEST} are needed to "
                "fit on"
            )
    return Split(labels, _listed(rest), _listed(apart), ours)


def without(split: Split, unreadable: Mapping[Path, str]) -> Split:
    """Those pictures that can be read; raises OnnxplainError if there are then too few of a class.

    unreadable: what is wrong with each of the others.
    """
    fitted, held_out = _kept(split.fitted, unreadable), _kept(split.held_out, unreadable)
    for part, fewest, purpose in ((fitted, FEWEST, "fit"), (held_out, 1, "measure")):
        counts = np.bincount(part.classes, minlength=len(split.labels))
        short = int(counts.argmin())
        if counts[short] < fewest:
            raise OnnxplainError(
                f"pictures of class {split.labels[short]} that can be read: {counts[short]} to {purpose} on, of at "
                f"least {fewest}; {len(unreadable)} pictures cannot be read, such as: {next(iter(unreadable.values()))}"
            )
    return Split(split.labels, fitted, held_out, split.ours)


def _kept(pictures: Pictures, unreadable: Mapping[Path, str]) -> Pictures:
    kept = [index for index, path in enumerate(pictures.paths) if path not in unreadable]
    return Pictures(tuple(pictures.paths[index] for index in kept), tuple(pictures.classes[index] for index in kept))


def _classes(folder: Path) -> tuple[dict[str, list[Path]], int]:
    """The pictures of each class, both sorted, and how many files were passed over as onnxplain made them."""
    needed = "it must hold one folder for each class, with the pictures of that class in it"
    if not folder.is_dir():
        raise OnnxplainError(f"there is no folder {folder}; {needed}")
    classes = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not classes:
        raise OnnxplainError(f"there are no folders in {folder}; {needed}")
    strange = [item.name for item in classes if item.name.encode(errors="ignore").decode() != item.name]
    if strange:
        raise OnnxplainError(f"the name of a class must be text, got the folder {strange[0]!r} in {folder}; rename it")
    every = {item.name: sorted(path for path in item.rglob("*") if _is_picture(path, item)) for item in classes}
    found = {label: [path for path in paths if not is_signed(path)] for label, paths in every.items()}
    # A folder that holds overlays only is no class; it may be the one that explain writes into.
    found = {label: paths for label, paths in found.items() if paths or not every[label]}
    empty = [label for label, paths in found.items() if not paths] or ([] if found else [*every])
    if empty:
        places = _few([str(folder / label) for label in empty])
        raise OnnxplainError(f"there are no pictures in {places}; they would end in {', '.join(IMAGE_SUFFIXES)}")
    return found, sum(map(len, every.values())) - sum(map(len, found.values()))


def _is_picture(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file()


def _listed(pictures: dict[str, list[Path]]) -> Pictures:
    return Pictures(
        tuple(path for paths in pictures.values() for path in paths),
        tuple(index for index, paths in enumerate(pictures.values()) for _ in paths),
    )


def _few(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
