"""What the service is asked about an image, what it answers, and who answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.metadata import Metadata
from onnxplain.runtime.outcome import Outcome

MAP_SIZES = ("image", "input", "tokens")
"""Over the image, the model's input, or its patches."""
TOP_K = 5


@dataclass(frozen=True)
class Model:
    """A model of the service.

    Attributes:
        name: By which requests name it: that of the file, without suffix.
        artifact: The file's path, as it was given.
        digest: Its SHA-256 digest.
        bytes: Its size.
        metadata: What it says about itself.
    """

    name: str
    artifact: str
    digest: str
    bytes: int
    metadata: Metadata


@dataclass(frozen=True)
class Question:
    """What is asked about one image.

    Attributes:
        image: The encoded image.
        methods: Names, with parameters behind them or without; None for predictions without an explanation.
        targets: Indices, labels or ranks.
        top_k: How many predictions are listed; None for all.
        summaries: Whether the answer says where each map is high.
        maps: Names in MAP_SIZES: the maps themselves that the answer has.
        layout: Of the picture that the answer has; None for no picture.
        most_values: How many numbers the maps may hold together; None for any.
    """

    image: bytes
    methods: tuple[str, ...] | None
    targets: tuple[int | str, ...] = (-1,)
    top_k: int | None = TOP_K
    summaries: bool = False
    maps: tuple[str, ...] = ()
    layout: str | None = None
    most_values: int | None = None


@dataclass(frozen=True)
class Answer:
    """What came of it.

    Attributes:
        about: What is the same for all explanations of the image, as `onnxplain.runtime.summary.about_image` has it;
            of predictions without an explanation, some of that.
        explanations: For each method and target, in this order, its `key`, and what `about_map` has, or without
            summaries the class, its score and probability.
        maps: For each of them the maps asked for, by name: float32 [height, width].
        picture: A PNG file.
        together: How many images were in its batch, itself included.
    """

    about: Mapping[str, Any]
    explanations: tuple[Mapping[str, Any], ...]
    maps: tuple[Mapping[str, NDArray[np.float32]], ...]
    picture: bytes | None
    together: int


class Explains(Protocol):
    """What explains for the service: in its own process, or elsewhere."""

    @property
    def models(self) -> Mapping[str, Model]:
        """By name."""

    async def ask(self, model: str, question: Question) -> Outcome[Answer]:
        """The answer, or the OnnxplainError of this image.

        Raises:
            UnavailableError: If nobody is there to answer.
        """


class UnavailableError(Exception):
    """Nobody is there to answer, as while a process of the model is started anew."""
