"""The errors a user of onnxplain can cause, what it warns of, and messages in one line.

Messages name arguments of Python in backticks, such as `num_classes` or `trust=True`, and nothing else. The command
line shows its users the options that stand for them (commands/options.py).
"""

from pathlib import Path

LENGTH = 300  # characters of a library's message: some are pages long


class OnnxplainError(ValueError):
    """A mistake in what the caller gave: one line that says what was given, what is valid and what to do.

    The base of all errors that onnxplain raises on purpose. Its subclasses are those that a program may want to answer
    differently; what has none, such as a device that is not there, is raised as an OnnxplainError itself.
    """


class ArtifactError(OnnxplainError):
    """A file cannot be opened as an artifact: it is missing, damaged, of another kind or version, or not trusted."""


class ImageError(OnnxplainError):
    """An image cannot be read, is too large, or is not in a form that is taken as an image."""


class ImageMissingError(ImageError):
    """There is no such image file, or nothing in its place."""


class ImageFormatError(ImageError):
    """What is there is not an image in a format that is read."""


class ImageSizeError(ImageError):
    """An image has more pixels or bytes than is allowed."""


class TargetError(OnnxplainError):
    """A target names no class of the artifact, or several."""


class MethodError(OnnxplainError):
    """There is no such method, the artifact lacks what it needs, or one of its parameters is not valid."""


class RunError(OnnxplainError):
    """The artifact could not be run, as when memory runs out, or the numbers it gave are not finite."""


def one_line(error: object) -> str:
    """A library's exception or a value as text on one line, cut to `LENGTH`; the type's name if it has no text."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, BaseException):  # what it has in backticks are no arguments of ours
        text = text.replace("`", "'")
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 2]} …"


def naming(path: Path, error: object) -> str:
    """The error's message, which begins with the file's path unless it has it already."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


class OnnxplainWarning(UserWarning):
    """Something that was asked for was not done, or a choice was made: one line that says which."""


class CacheWarning(OnnxplainWarning):
    """A cache was asked for, but cannot be written; all else works."""
