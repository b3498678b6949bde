"""The options that choose and prepare a model, which export and probe have in common."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from typer import Option

from onnxplain.commands import arguments
from onnxplain.commands.options import option_of


@dataclass(frozen=True)
class ModelOptions:
    """What stands on the command line about the model; every field is an option."""

    checkpoint: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Weights instead of the published ones: .safetensors, .pth or .bin, or a folder or hub repository.",
        ),
    ] = None
    head_pooling: Annotated[
        str | None,
        Option(
            metavar="POOLING",
            help="What the head reads: cls, mean, cls+mean, or own.",
            show_default="what its file says, or what suits the model",
        ),
    ] = None
    image_size: Annotated[str | None, Option(metavar="N|HxW", help="Input size in pixels.")] = None
    mean: Annotated[
        str | None, Option(metavar="R,G,B", help="Mean of the pixels, from 0 to 1.", show_default="the model's")
    ] = None
    std: Annotated[
        str | None, Option(metavar="R,G,B", help="Their standard deviation.", show_default="the model's")
    ] = None
    crop_pct: Annotated[
        float | None,
        Option(metavar="R", help="Input size / size that images are resized to.", show_default="the model's"),
    ] = None
    crop_mode: Annotated[
        str | None,
        Option(
            metavar="MODE",
            help="How they are cut to the input: center, squash or border.",
            show_default="the model's",
        ),
    ] = None
    interpolation: Annotated[
        str | None,
        Option(metavar="NAME", help="How they are resized: bicubic, bilinear, …", show_default="the model's"),
    ] = None
    random_init: Annotated[bool, Option("--random-init", help="Go without trained weights, to try things out.")] = False

    @property
    def size(self) -> int | tuple[int, int] | None:
        """The input size; raises OnnxplainError if it is not valid."""
        return None if self.image_size is None else arguments.parse_size(self.image_size)

    @property
    def preprocessing(self) -> arguments.PreprocessingFields:
        """The fields of preprocessing that are given; raises OnnxplainError if one is not valid."""
        return arguments.parse_preprocessing(self.mean, self.std, self.crop_pct, self.crop_mode, self.interpolation)

    def words(self) -> Iterator[str]:
        """The same options as they stand on a command line, but for head_pooling, which a head holds itself."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is True:
                yield option_of(item.name)
            elif value not in (None, False) and item.name != "head_pooling":
                yield from (option_of(item.name), str(value))
