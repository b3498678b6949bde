"""The arguments of commands, read and checked before any work begins."""

import gc
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from typer.core import TyperCommand

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.contract.names import no_such
from onnxplain.contract.validation import SIDE

STDIN = Path("-")
"""The name that stands for standard input."""
SEVERAL = ("--prompts", "--template")
"""The options that take all values up to the next option."""


class SeveralValues(TyperCommand):
    """A command whose options in SEVERAL take all values up to the next option; it has no positional arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments as if such an option stood before each of its values."""
        return super().parse_args(ctx, one_value_each(args))


def one_value_each(arguments: Iterable[str]) -> list[str]:
    """Change --prompts "a cat" "a dog" to --prompts "a cat" --prompts "a dog", and so on."""
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
    """Import onnxplain.export; raises ImportError that says what to install to have it."""
    # Has PyTorch ask Linux for large pages: comparing a model of 1370 tokens, half the time was spent on clearing small
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    gc.disable()  # Python's collector would go through PyTorch's objects again and again, and find that all stay
    try:
        from onnxplain import export as package
    except ModuleNotFoundError as error:
        raise ImportError(f"this command needs {error.name}: pip install 'onnxplain[export]'") from error
    finally:
        gc.enable()
    return package


def check_not_a_method(artifact: Path) -> None:
    """Raise OnnxplainError if what should be a file is the name of a method."""
    from onnxplain.runtime import METHODS
    from onnxplain.runtime.methods.choice import canonical

    if canonical(str(artifact)) in METHODS and not artifact.exists():
        raise OnnxplainError(
            f"{artifact} is a method, not an artifact; the command methods without it describes all methods"
        )


def parse_providers(given: list[str] | None) -> list[str | tuple[str, dict[str, Any]]] | None:
    """onnxruntime's providers: NAME, or NAME={"option": "value", …}; None if none is given."""
    if not given:
        return None
    providers: list[str | tuple[str, dict[str, Any]]] = []
    for text in given:
        name, has_options, document = text.partition("=")
        try:
            options = json.loads(document) if has_options else {}
        except (ValueError, RecursionError):  # the latter of brackets in brackets without end
            options = None
        if not isinstance(options, dict):
            raise OnnxplainError(
                f"--provider must be a name, or NAME=OPTIONS with a JSON object such as "
                f"""{name}='{{"device_id": "0"}}', got {text!r}"""
            )
        providers.append((name, options) if options else name)
    return providers


def parse_size(text: str) -> int | tuple[int, int]:
    """A number of pixels, or (height, width); raises OnnxplainError if the text is neither, or has too many digits."""
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text, re.ASCII)
    if match is None:
        raise OnnxplainError(f"--image-size must be N or HxW in pixels, such as 224 or 224x384, got {text!r}")
    if max(map(len, text.split("x"))) > len(str(SIDE)):  # before int, which takes no more than 4300
        raise OnnxplainError(f"--image-size must be from 1 to {SIDE} pixels, got {one_line(text)}")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


class PreprocessingFields(TypedDict, total=False):
    """The fields that replace those of a model's own preprocessing."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    crop_mode: str
    interpolation: str


def parse_preprocessing(
    mean: str | None, std: str | None, crop_pct: float | None, crop_mode: str | None, interpolation: str | None
) -> PreprocessingFields:
    """The fields of Preprocessing that are given; raises OnnxplainError if one is not valid."""
    from onnxplain.contract import Preprocessing
    from onnxplain.contract.preprocessing import CROP_MODES, INTERPOLATIONS

    for option, choice, choices in (
        ("crop mode", crop_mode, CROP_MODES),
        ("interpolation", interpolation, INTERPOLATIONS),
    ):
        if choice is not None and choice not in choices:
            raise OnnxplainError(no_such(option, choice, choices, {"centre": ("center",), "linear": ("bilinear",)}))
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
        raise OnnxplainError(f"{option} must be three numbers, such as 0.485,0.456,0.406, or one for all, got {text!r}")
    red, green, blue = numbers * (3 // len(numbers))
    return red, green, blue


def listed(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",")]


def parse_passes(given: list[str]) -> tuple[str, ...]:
    """The names of backward passes, separated by commas; attention, which every file has, may be named as well."""
    from onnxplain.contract import PASSES
    from onnxplain.contract.outputs import OF_OUTPUTS

    reverse = tuple(name for name in PASSES if name != "attention")
    wanted = [name for text in given for name in listed(text)]
    unknown = [name for name in wanted if name not in PASSES]
    if unknown:
        raise OnnxplainError(no_such("pass", unknown[0], PASSES, OF_OUTPUTS))
    return tuple(name for name in reverse if name in wanted)


def artifact_path(given: str | None, model: str, format: str) -> Path:
    """The file that export writes; its name is the model's unless one is given."""
    from onnxplain.contract.formats import check_format, find_format

    path = _file(given) or Path("artifacts") / f"{model.rstrip('/').rpartition('/')[2]}{find_format(format).suffix}"
    check_format(format, path)
    return path


def head_path(given: str | None, model: str) -> Path:
    """The file that probe writes; its name is the model's unless one is given."""
    path = _file(given) or Path("artifacts") / f"{model.rstrip('/').rpartition('/')[2]}.head.safetensors"
    if path.suffix != ".safetensors":
        raise OnnxplainError(f"--output must end in .safetensors, got {path}")
    return path


def _file(given: str | None) -> Path | None:
    """The path; raises OnnxplainError if it is written as that of a folder."""
    if given and given.endswith(tuple(filter(None, (os.sep, os.altsep)))):
        raise OnnxplainError(f"--output {given} is a folder; give the name of the file to write")
    return Path(given) if given else None


def check_new_file(path: Path, force: bool) -> None:
    """Raise OnnxplainError if there is such a file, unless `force`, or if it cannot be written."""
    if path.is_dir():
        raise OnnxplainError(f"--output {path} is a folder; give the name of the file to write")
    if path.exists() and not force:
        raise OnnxplainError(f"{path} exists; give --force to replace it, or another --output")
    check_writable(path.parent)


def check_writable(folder: Path, option: str = "--output") -> None:
    """Raise OnnxplainError unless files can be written into the folder, which is tried, and need not exist."""
    from onnxplain.runtime.files import existing_folder

    try:
        with existing_folder(folder, only_tried=True):
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        clash = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it is not a folder" if clash else error.strerror
        raise OnnxplainError(f"cannot write into {folder}: {reason}; give another {option}") from None


def read_stdin(max_pixels: int) -> bytes:
    """The bytes of standard input; raises OnnxplainError if they are more than an image of so many pixels needs."""
    from onnxplain.runtime.images.loading import max_bytes

    if sys.stdin is None or sys.stdin.isatty():
        raise OnnxplainError("- reads an image from standard input, which is none; give a file, or < FILE")
    limit = max_bytes(max_pixels)
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        raise OnnxplainError(
            f"standard input holds more than the {limit} bytes that an image of {max_pixels} pixels needs; raise the "
            "limit with --max-pixels"
        )
    return data
