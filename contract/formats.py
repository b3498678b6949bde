"""The file formats of artifacts, as data: export attaches what writes each, the runtime what opens it."""

from dataclasses import dataclass
from pathlib import Path

from .errors import OnnxplainError
from .names import no_such


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        suffix: How the names of its files end.
        about: What to know of it, which stands behind its name in the help of the command export.
        is_program: Whether a file can do anything that its user can, so that it is opened only if it is trusted.
        has_cache: Whether the runtime can keep a simplified copy of a file that opens sooner.
        has_packed: Whether the runtime can keep the weights in the order in which products read them, too.
    """

    suffix: str
    about: str = ""
    is_program: bool = False
    has_cache: bool = False
    has_packed: bool = False


# By name
FORMATS: dict[str, Format] = {
    "onnx": Format(".onnx", has_cache=True, has_packed=True),
    "torchscript": Format(".pt", "which PyTorch calls deprecated, in files named .pt", is_program=True),
}
SUFFIXES = tuple(item.suffix for item in FORMATS.values())
DEFAULT = "onnx"  # also of files with any other suffix

# What people call them
OTHER_NAMES = {"pt": ("torchscript",), "torch": ("torchscript",)}


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        OnnxplainError: There is none.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise OnnxplainError(no_such("format", name, FORMATS, OTHER_NAMES))
    return FORMATS[name]


def format_of(path: str | Path) -> str:
    """The name of the format that a file at `path` is taken for."""
    suffix = Path(path).suffix.lower()
    return next((name for name, item in FORMATS.items() if item.suffix == suffix), DEFAULT)


def check_format(name: str, path: str | Path) -> None:
    """Check that there is a format of that name and that a file at `path` would be taken for one.

    Raises:
        OnnxplainError: There is no such format, or the suffix is that of another.
    """
    find_format(name)
    if format_of(path) != name:
        raise OnnxplainError(
            f"a file named {path} would be taken for {format_of(path)}, not for {name}; give a name that ends in "
            f"{FORMATS[name].suffix}"
        )
