"""Options that several commands have, and the options that errors of the library mean."""

import re
from pathlib import Path
from typing import Annotated

from typer import Option

Model = Annotated[str, Option(metavar="NAME", help="vit, dinov2, demo, timm/<name>, …; see the command models.")]
Checkpoint = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="Weights instead of the published ones: .safetensors, .pth or .bin, or a folder or hub repository.",
    ),
]
ImageSize = Annotated[str | None, Option(metavar="N|HxW", help="Input size in pixels.")]
Mean = Annotated[
    str | None,
    Option(metavar="R,G,B", help="Mean of the pixels, from 0 to 1.", show_default="the model's"),
]
Std = Annotated[
    str | None,
    Option(metavar="R,G,B", help="Their standard deviation.", show_default="the model's"),
]
CropPct = Annotated[
    float | None,
    Option(metavar="R", help="Input size / size that pictures are resized to.", show_default="the model's"),
]
CropMode = Annotated[
    str | None,
    Option(metavar="MODE", help="How they are cut to the input: center, squash or border.", show_default="the model's"),
]
Interpolation = Annotated[
    str | None,
    Option(metavar="NAME", help="How they are resized: bicubic, bilinear, …", show_default="the model's"),
]
RandomInit = Annotated[bool, Option("--random-init", help="Go without trained weights, to try things out.")]
Force = Annotated[bool, Option("--force", help="Replace the output if it exists.")]
Trust = Annotated[
    bool,
    Option(
        "--trust", help="Open a .pt file, which is a program and can read and overwrite files: from people you trust."
    ),
]
Quiet = Annotated[bool, Option("--quiet", help="Print errors and warnings only.")]

OTHER_NAMES = {"C": "--C", "name": "--model", "providers": "--provider", "templates": "--template"}
"""The arguments of Python whose options are named otherwise than they are."""
ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
"""How errors of the library write arguments: `head` or `head_pooling='own'`."""
QUOTES = "'\""


def as_options(message: str) -> str:
    """A message of the library with options in place of arguments, such as --head or --head-pooling own."""
    return ARGUMENT.sub(_option, message)


def option_of(argument: str) -> str:
    """The option that stands for an argument of Python."""
    return OTHER_NAMES.get(argument, f"--{argument.replace('_', '-')}")


def _option(found: re.Match[str]) -> str:
    name, value = found.groups()
    return option_of(name) if value in (None, "True") else f"{option_of(name)} {value.strip(QUOTES)}"
