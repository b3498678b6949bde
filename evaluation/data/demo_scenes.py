"""The scenes of onnxplain.demo as a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxplain.contract.errors import OnnxplainError
from onnxplain.demo.scenes import DIGITS, scene

from ..samples import Boxes, Sample
from .data_set import DataSet

FIRST_SEED = 10_000
"""Far from the scenes that training measured itself on."""
COUNT = 500
"""Scenes unless told otherwise."""


def open_demo(labels: Sequence[str], limit: int | None = None) -> DataSet:
    """Scenes of digits that the demo model never saw.

    Args:
        labels: Of the artifact's classes; the names of the digits, `DIGITS`, must be among them.
        limit: How many scenes; 500 by default.

    Raises:
        OnnxplainError: If a digit is no class of the artifact, or scikit-learn, which has the digits, is missing.
    """
    missing = [digit for digit in DIGITS if digit not in labels]
    if missing:
        raise OnnxplainError(
            f"the demo's scenes show the digits zero to nine, and the artifact has no class {missing[0]!r}; give a "
            "folder with images of its own classes"
        )
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise OnnxplainError("the demo's scenes need scikit-learn: pip install 'onnxplain[probe]'") from None
    count = COUNT if limit is None else limit
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    return DataSet(
        f"the demo's scenes from seed {FIRST_SEED}",
        tuple(f"scene-{seed}" for seed in seeds),
        _Draw(tuple(labels.index(digit) for digit in DIGITS)),
    )


@dataclass(frozen=True)
class _Draw:
    """Draws the scene at a place of the data set.

    Attributes:
        classes: Of each digit the artifact's class.
    """

    classes: tuple[int, ...]

    def __call__(self, place: int) -> Sample:
        seed = FIRST_SEED + place
        drawn = scene(seed, "test")
        classes = [self.classes[digit] for digit in drawn.labels]
        regions = {index: Boxes((tuple(box),)) for index, box in zip(classes, drawn.boxes.tolist(), strict=True)}
        return Sample(f"scene-{seed}", drawn.image, tuple(classes), regions)
