"""What data sets call their classes, as classes of the artifact."""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files

from onnxplain.contract.errors import OnnxplainError, TargetError
from onnxplain.runtime.targets import resolve_target

from .data_set import first_few

WORDNET_ID = re.compile(r"n\d{8}")
IMAGENET_ENDS = "tench", "toilet tissue"
"""The names of the first and the last class of ImageNet-1k."""


def find_classes(names: Iterable[str], labels: Sequence[str], data: object) -> tuple[dict[str, int], list[str]]:
    """Find the artifact's class of each name.

    A name is a label, one of a label's synonyms, a class's index in digits, or a WordNet ID. WordNet IDs are known for
    artifacts with the 1000 classes of ImageNet; for others if the data has exactly as many IDs as the artifact has
    classes: then their sorted order is that of the classes, as it is where a model was fitted on such folders.

    Args:
        names: As the data set has them.
        labels: Of the artifact's classes.
        data: What errors call the data set.

    Returns:
        By name the class's index, of those names that are a class; and a warning if others are not.

    Raises:
        OnnxplainError: If none is, or there are no names.
    """
    names = list(dict.fromkeys(names))
    exact = {label: index for index, label in enumerate(labels)}
    by_id = _wordnet_ids(names, labels)
    found: dict[str, int] = {}
    unknown: dict[str, str] = {}
    for name in names:
        index = exact[name] if labels.count(name) == 1 else by_id.get(name)
        try:
            found[name] = resolve_target(name, labels) if index is None else index
        except TargetError as error:
            unknown[name] = str(error)
        else:
            if found[name] < 0:  # to explain, -1 is the top-1 class
                unknown[name] = f"there is no class {found.pop(name)}"
    if not names:
        raise OnnxplainError(f"{data} lists no images")
    if not found:
        raise OnnxplainError(
            f"{data} has no class of the artifact: {next(iter(unknown.values()))}; "
            f"its classes are {first_few([repr(label) for label in labels])}"
        )
    if not unknown:
        return found, []
    listed = first_few([repr(name) for name in unknown])
    return found, [f"classes that the artifact does not have, skipped: {len(unknown)} of {len(names)}: {listed}"]


def _wordnet_ids(names: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    """Each known WordNet ID's class."""
    given = sorted(name for name in names if WORDNET_ID.fullmatch(name))
    ends = [label.split(",")[0].strip().casefold() for label in (labels[0], labels[-1])]
    if len(labels) == 1000 and tuple(ends) == IMAGENET_ENDS:
        given = files(__package__).joinpath("imagenet_wnids.txt").read_text("ascii").split()
    elif len(given) != len(labels):
        return {}
    return {name: index for index, name in enumerate(given)}
