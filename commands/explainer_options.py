"""The options of explain, heads and features that say how the artifact is opened and run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from onnxplain.commands import arguments
from onnxplain.commands.options import Trust
from onnxplain.contract.formats import FORMATS, format_of

if TYPE_CHECKING:
    from onnxplain.runtime import Explainer

MANY = 10
"""Images for which it pays to pack the weights."""


@dataclass(frozen=True)
class OpeningOptions:
    """What stands on the command line about that; every field is an option.

    Raises:
        OnnxplainError: A provider is not valid.
    """

    device: Annotated[str, Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto"
    provider: Annotated[
        list[str] | None,
        Option(
            metavar="NAME[=JSON]",
            help="Where to run, as onnxruntime calls it: an execution provider, and its options as a JSON object. "
            "Can be repeated, first choice first.",
            show_default="those of the device",
        ),
    ] = None
    cache: Annotated[
        bool, Option("--cache", help="Keep what lets the artifact open sooner the next time, in ARTIFACT.cache.")
    ] = False
    trust: Trust = False
    max_pixels: Annotated[
        int | None, Option(metavar="N", min=1, help="Larger images are refused.", show_default="67108864")
    ] = None

    def __post_init__(self) -> None:
        arguments.parse_providers(self.provider)  # a mistake is told before images are looked for

    @property
    def pixel_limit(self) -> int:
        """How many pixels an image may have."""
        from onnxplain.runtime.images.loading import MAX_PIXELS

        return self.max_pixels or MAX_PIXELS

    def open(self, artifact: Path, images: int, **others: Any) -> "Explainer":
        """Open the artifact for so many images, with other arguments of Explainer; packed if that pays."""
        from onnxplain.runtime import Explainer

        return Explainer(
            artifact,
            self.device,
            cache=self.cache,
            trust=self.trust,
            max_pixels=self.pixel_limit,
            providers=arguments.parse_providers(self.provider),
            packed=images >= MANY and FORMATS[format_of(artifact)].has_packed,
            **others,
        )


@dataclass(frozen=True)
class ExplainerOptions(OpeningOptions):
    """The same, and what concerns predictions."""

    top_k: Annotated[int, Option(metavar="N", min=1, help="How many predictions to list.")] = 5

    def open(self, artifact: Path, images: int, **others: Any) -> "Explainer":
        """See OpeningOptions."""
        return super().open(artifact, images, top_k=self.top_k, **others)
