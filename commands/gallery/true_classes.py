"""The classes that images truly show, by the names of the folders that they are in."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxplain.commands.display import slug
from onnxplain.contract.errors import OnnxplainError


def true_classes(images: Mapping[Path, Path], labels: Sequence[str]) -> dict[Path, int]:
    """The true class of each image that is in a folder with the name of a class.

    That is a label, one of its synonyms between commas, these as slugs (`tiger-cat`), a class's index, or a WordNet ID
    as in `evaluation.data`. A name that several classes have is none. Sub-folders of the folder that was given count
    first, the outermost before the others, then that folder itself.

    Args:
        images: The images, each with its folder within the folder that was given.
        labels: Of the artifact's classes.

    Returns:
        Class indices, of those images that have one.
    """
    folders = {image: _folders(image, place) for image, place in images.items()}
    classes = _classes(dict.fromkeys(name for names in folders.values() for name in names), labels)
    found = {}
    for image, names in folders.items():
        known = [classes[name] for name in names if name in classes]
        if known:
            found[image] = known[0]
    return found


def _folders(image: Path, place: Path) -> tuple[str, ...]:
    """The names that may be that of the image's class."""
    above = Path(os.path.abspath(image)).parents  # noqa: PTH100 - resolve() would follow links
    return (*place.parts, above[len(place.parts)].name)


def _classes(names: Mapping[str, None], labels: Sequence[str]) -> dict[str, int]:
    """The classes of those names that are one."""
    from onnxplain.evaluation.data.classes import WORDNET_ID, find_classes

    by_slug: dict[str, set[int]] = {}
    for index, label in enumerate(labels):
        for name in (label, *label.split(",")):
            by_slug.setdefault(_key(name), set()).add(index)
    # To look for a name that is no class takes long, as the message proposes others
    likely = [name for name in names if _key(name) in by_slug or name.isdecimal() or WORDNET_ID.fullmatch(name)]
    try:
        found, _ = find_classes(likely, labels, "the folders' names")
    except OnnxplainError:
        found = {}
    for name in likely:
        alike = by_slug.get(_key(name), set())
        if name not in found and len(alike) == 1:
            found[name] = next(iter(alike))
    return found


def _key(name: str) -> str:
    """The name as a slug; where that is empty, as of letters beyond a to z, itself in lower case."""
    return slug(name) or " ".join(name.casefold().split())
