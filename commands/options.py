"""Options that several commands have, and the options that errors of the library mean."""

import re
from typing import Annotated

from typer import Argument, Option

Model = Annotated[str, Option(metavar="NAME", help="vit, dinov2, demo, timm/<name>, …; see the command models.")]
Data = Annotated[
    str,
    Argument(
        metavar="DATA",
        help="A folder with a folder of images for each class, a CSV or COCO file, or demo: the demo's scenes.",
    ),
]
Force = Annotated[bool, Option("--force", help="Replace the output if it exists.")]
Trust = Annotated[
    bool,
    Option(
        "--trust", help="Open a .pt file, which is a program and can read and overwrite files: from people you trust."
    ),
]
Quiet = Annotated[bool, Option("--quiet", help="Print errors and warnings only.")]

OTHER_NAMES = {
    "C": "--C",
    "model_name": "--name",
    "name": "--model",
    "providers": "--provider",
    "templates": "--template",
}
"""The arguments of Python whose options are named otherwise than they are."""
PYTHON_ONLY = {"activation", "batch_size", "number", "preprocessing"}
"""The arguments that have no option; messages keep their names."""
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
    if name in PYTHON_ONLY:
        return found[0]
    return option_of(name) if value in (None, "True") else f"{option_of(name)} {value.strip(QUOTES)}"
