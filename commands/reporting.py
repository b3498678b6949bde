"""How the command line ends when something goes wrong: one line on standard error and an exit status."""

import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from onnxplain.commands.options import as_options
from onnxplain.commands.printable import printable
from onnxplain.contract.errors import OnnxplainError, OnnxplainWarning

PROGRAM = "onnxplain"
LONGEST = 1000  # characters of a message
STANDARD_ERROR = 2  # the number that all programs know it by
TYPED: ContextVar[Sequence[str]] = ContextVar("TYPED", default=())  # the words of the command line
ENDING = [signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # the latter not on Windows
DEBUG = "ONNXPLAIN_DEBUG"  # the environment variable that shows tracebacks and what libraries warn of


class OneLineErrors(TyperGroup):
    """The group of commands; whatever goes wrong in them ends as one line on standard error and an exit status."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Exit with 0; 2 after a mistake of the user, 1 after ours, 130 after Ctrl-C, 128 + the signal of ENDING."""
        sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123  # closed: there is no file to close
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a file name need not be valid text, nor the terminal take every letter
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        TYPED.set(args)
        try:
            with _exit_on_signals(), _silence_libraries(), _ignore_warnings_of_libraries():
                status = super().main(args, prog_name or PROGRAM, *rest, **{**extra, "standalone_mode": False})
        except Exception as error:
            status = _report(error)
        sys.exit(status or 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the base class would turn Ctrl-C into a silent exit."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(130) from None


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Have the signals of ENDING end the program as an error does, so that what is half-written is removed."""

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # the only one that may
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(error: Exception) -> int:
    """Say in one line what went wrong; the exit status."""
    if hasattr(error, "format_message"):  # typer's, about the arguments
        context = getattr(error, "ctx", None)
        help = f"see: {context.command_path} --help" if context else ""
        values: list[Any] = getattr(
            error.__cause__, "errors", list
        )()  # pydantic's; typer's own message does not repeat them
        given = "".join(f", got {value['input']!r}" for value in values)
        message = error.format_message().rstrip(".") + given
        between = " " if message.endswith("?") else "; "
        _print("error", between.join(filter(None, (message, help))))
        return 2
    if DEBUG in os.environ:
        raise error
    if isinstance(error, OnnxplainError):
        print_error(str(error))
        return 2
    if isinstance(error, ImportError | OSError):  # what these have in backticks are no arguments of ours
        _print("error", str(error))
        return 2
    if isinstance(error, MemoryError):
        _print("error", f"there is not enough memory{f': {error}' if str(error) else ''}")
        return 2
    _print("error", f"unexpected {type(error).__name__}: {error} (run with {DEBUG}=1 for the traceback)")
    return 1


def _with_options(message: str) -> str:
    """A message of the library with options in place of arguments; what the user typed stays as it is."""
    words = {form for word in TYPED.get() for form in (word, word.partition("=")[2], str(Path(word))) if "`" in form}
    if not words:
        return as_options(message)
    parts = re.split(f"({'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})", message)
    return "".join(part if part in words else as_options(part) for part in parts)


def print_error(message: str) -> None:
    """A message on standard error, see `one_line`."""
    _print("error", _with_options(message))


def print_warning(message: str) -> None:
    """A warning on standard error, likewise."""
    _print("warning", _with_options(message))


def _print(kind: str, message: str) -> None:
    print(f"{kind}:", _shortened(message), file=sys.stderr)


def one_line(message: str) -> str:
    """A message as it is printed: on one line, with options in place of the arguments that it names.

    Of a long one the middle is left out, which is what was given.
    """
    return _shortened(_with_options(message))


def _shortened(message: str) -> str:
    line = printable(" ".join(message.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Print the warnings of onnxplain itself to standard error, one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OnnxplainWarning)
        try:
            yield
        finally:
            for item in caught:
                if issubclass(item.category, OnnxplainWarning):
                    print_warning(str(item.message))


@contextmanager
def _silence_libraries() -> Iterator[None]:
    """Discard what libraries write to standard error past Python, as libtiff does for damaged images."""
    if DEBUG in os.environ or not _is_standard_error(sys.stderr):
        yield
        return
    before = sys.stderr
    before.flush()
    copy = os.dup(before.fileno())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, before.fileno())
    os.close(nowhere)
    with os.fdopen(copy, "w", 1, before.encoding, before.errors) as sys.stderr:
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(copy, before.fileno())
            sys.stderr = before


def _is_standard_error(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == STANDARD_ERROR)
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        return False


@contextmanager
def _ignore_warnings_of_libraries() -> Iterator[None]:
    """Hide the warnings and log messages of libraries, which do not concern the user."""
    before = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            if DEBUG not in os.environ:
                logging.disable(logging.WARNING)
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
