"""Folders and small files: models of transformers, heads, labels, prompts, and folders of pictures.

The right answer is, for a model of transformers, what that library makes of the folder: its logits for a picture that
its own processor prepares, and its labels. For a head, labels and prompts it is what a reader of the tests finds in the
file. In a folder of pictures every whole picture is to be explained, and every other entry costs only itself.
"""

import random
from pathlib import Path

from tests.fuzz import exports, folders_of_pictures, folders_of_transformers, small_files
from tests.fuzz.cases import Case

MAKERS = (
    (4, folders_of_transformers.make),
    (3, folders_of_pictures.make),
    (1, small_files.head),
    (1, small_files.labels),
    (1, small_files.prompts),
)
imports = exports.imports


def prepare(base: Path) -> None:
    """The undamaged files of each."""
    for part in (folders_of_transformers, folders_of_pictures, small_files):
        part.prepare(base)


def make(rng: random.Random, base: Path, folder: Path) -> Case:
    """One of them, damaged."""
    chosen = rng.choices([maker for _, maker in MAKERS], [weight for weight, _ in MAKERS])[0]
    return chosen(rng, base, folder)
