"""What the command line is given, read and checked before any work begins."""

import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from typer.core import TyperCommand

STDIN = Path("-")
"""The name that stands for standard input."""
SEVERAL = ("--prompts", "--template")
"""The options that take all values up to the next option."""


class InputError(ValueError):
    """An argument that cannot be used: one line that says what was given, what is valid and what to do.

    OnnxplainError for arguments, without importing the contract, and NumPy with it.
    """


def mistakes() -> tuple[type[Exception], ...]:
    """What users cause. Looked up late: the contract imports NumPy."""
    from onnxplain.contract import OnnxplainError

    return InputError, ImportError, OSError, OnnxplainError


class SeveralValues(TyperCommand):
    """A command without arguments of its own, so that the options in SEVERAL can take several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As if the option stood before each of its values."""
        return super().parse_args(ctx, one_value_each(args))


def one_value_each(arguments: Iterable[str]) -> list[str]:
    """--prompts "a cat" "a dog" as --prompts "a cat" --prompts "a dog"."""
    result: list[str] = []
    option, has_value = "", True
    for argument in arguments:
        if has_value and argument.startswith("-"):
            name, given, _ = argument.partition("=")
            option, has_value = (name, bool(given)) if name in SEVERAL else ("", True)
        else:
            if has_value and option:
                result.append(option)
            has_value = True
        result.append(argument)
    return result


def export_package() -> Any:
    """onnxplain.export, or what to install to have it."""
    try:
        from onnxplain import export as package
    except ModuleNotFoundError as error:
        raise ImportError(f"this command needs {error.name}: pip install 'onnxplain[export]'") from error
    return package


def check_all_methods(methods: list[str] | None, parameters: Mapping[str, object]) -> None:
    """--all-methods compares all methods with their defaults."""
    given = [*(["method"] if methods else []), *parameters]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise InputError(f"--all-methods shows every method with its defaults; leave out {option}")


def shared_out(
    names: list[str] | None, parameters: Mapping[str, object], passes: tuple[str, ...]
) -> dict[str, dict[str, object]]:
    """Each of the methods, by default the best one for these passes, with those of the parameters that it has.

    Raises InputError if there are several and none has one of them; a single one is given them all, to refuse them.
    """
    from onnxplain.runtime.methods.choice import find_method

    methods = [find_method(name, passes) for name in names] if names else [find_method(None, passes)]
    has = {method.name: {parameter.name for parameter in method.parameters} for method in methods}
    if len(methods) == 1:
        return {methods[0].name: dict(parameters)}
    for name in parameters:
        if not any(name in known for known in has.values()):
            raise InputError(f"none of the methods {', '.join(has)} has the parameter `{name}`; leave it out")
    return {
        given: {name: value for name, value in parameters.items() if name in has[method.name]}
        for given, method in zip(names or [], methods, strict=True)
    }


def parse_size(text: str) -> int | tuple[int, int]:
    """A number of pixels, or (height, width)."""
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text, re.ASCII)
    if match is None:
        raise InputError(f"--image-size must be N or HxW in pixels, such as 224 or 224x384, got {text!r}")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


class PreprocessingFields(TypedDict, total=False):
    """What can be given in place of a model's own preprocessing."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    crop_mode: str
    interpolation: str


def parse_preprocessing(
    mean: str | None, std: str | None, crop_pct: float | None, crop_mode: str | None, interpolation: str | None
) -> PreprocessingFields:
    """Those fields of Preprocessing that are given."""
    from onnxplain.contract import Preprocessing
    from onnxplain.contract.metadata import CROP_MODES, INTERPOLATIONS
    from onnxplain.contract.names import no_such

    for option, choice, choices in (
        ("crop mode", crop_mode, CROP_MODES),
        ("interpolation", interpolation, INTERPOLATIONS),
    ):
        if choice is not None and choice not in choices:
            raise InputError(no_such(option, choice, choices, {"centre": ("center",), "linear": ("bilinear",)}))
    given: PreprocessingFields = {}
    if mean is not None:
        given["mean"] = _three_numbers("--mean", mean)
    if std is not None:
        given["std"] = _three_numbers("--std", std)
    if crop_pct is not None:
        given["crop_pct"] = crop_pct
    if crop_mode is not None:
        given["crop_mode"] = crop_mode
    if interpolation is not None:
        given["interpolation"] = interpolation
    replace(Preprocessing((1, 1), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), **given)  # raises what is wrong
    return given


def _three_numbers(option: str, text: str) -> tuple[float, float, float]:
    """One for each channel, or one for all three."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise InputError(f"{option} must be three numbers, such as 0.485,0.456,0.406, or one for all, got {text!r}")
    red, green, blue = numbers * (3 // len(numbers))
    return red, green, blue


def parse_passes(given: list[str]) -> tuple[str, ...]:
    """The reverse passes; attention, which is always there, may be named as well."""
    from onnxplain.contract import PASSES
    from onnxplain.contract.names import no_such
    from onnxplain.contract.outputs import OF_OUTPUTS

    reverse = tuple(name for name in PASSES if name != "attention")
    wanted = [name.strip() for text in given for name in text.split(",")]
    unknown = [name for name in wanted if name not in PASSES]
    if unknown:
        raise InputError(no_such("pass", unknown[0], PASSES, OF_OUTPUTS))
    return tuple(name for name in reverse if name in wanted)


def artifact_path(given: Path | None, model: str, format: str) -> Path:
    """The file that export writes, its name that of the model unless one is given."""
    from onnxplain.contract.formats import check_format, find_format

    path = given or Path("artifacts") / f"{model.rstrip('/').rpartition('/')[2]}{find_format(format).suffix}"
    check_format(format, path)
    return path


def head_path(given: Path | None, model: str) -> Path:
    """The file that probe writes, its name that of the model unless one is given."""
    path = given or Path("artifacts") / f"{model.rstrip('/').rpartition('/')[2]}.head.safetensors"
    if path.suffix != ".safetensors":
        raise InputError(f"--output must end in .safetensors, got {path}")
    return path


def check_new_file(path: Path, force: bool) -> None:
    """Whether the file may and can be written."""
    if path.is_dir():
        raise InputError(f"--output {path} is a folder; give the name of the file to write")
    if path.exists() and not force:
        raise InputError(f"{path} exists; give --force to replace it, or another --output")
    check_writable(path.parent)


def check_writable(folder: Path, option: str = "--output") -> None:
    """Try it, since permissions alone do not tell, and leave nothing behind."""
    made = []
    try:
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        clash = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it is not a folder" if clash else error.strerror
        raise InputError(f"cannot write into {folder}: {reason}; give another {option}") from None
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def read_stdin(max_pixels: int) -> bytes:
    """What standard input holds, as far as it can be a picture of so many pixels."""
    from onnxplain.runtime.images.loading import max_bytes

    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("- reads a picture from standard input, which is none; give a file, or < FILE")
    limit = max_bytes(max_pixels)
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise InputError(
            f"standard input holds more than the {limit} bytes that a picture of {max_pixels} pixels needs; raise the "
            "limit with --max-pixels"
        )
    return data


def allow_pixels(count: int) -> None:
    """Lift Pillow's own limit, for this process, where a higher one was asked for."""
    from PIL import Image

    if Image.MAX_IMAGE_PIXELS is not None:  # None is no limit
        Image.MAX_IMAGE_PIXELS = max(count, Image.MAX_IMAGE_PIXELS)
