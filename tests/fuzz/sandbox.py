"""A process for one piece of work, with limits of time and memory."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.cases import Outcome

POLL = 0.005  # seconds
RESIDENT = "resident"  # the file in which a process says how much memory it has to begin with
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Limits:
    """Of wall time in seconds, and of memory in bytes beyond what the process has to begin with.

    `most` ends the allocation; `peak` is what counts as too much, though it could be had.
    """

    seconds: float = 60
    peak: int = 3 * 2**29
    most: int = 3 * 2**30


LIMITS = Limits()


def run(work: Callable[[], None], folder: Path, limits: Limits = LIMITS) -> Outcome:
    """What becomes of `work` in a process that is forked for it and works in `folder`.

    Beside the folder stand `stdout` and `stderr` then.
    """
    before = files(folder)
    streams = folder.parent / "stdout", folder.parent / "stderr"
    pid = os.fork()
    if pid == 0:
        _child(work, folder, streams, limits)
    deadline, hung = time.monotonic() + limits.seconds, False
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG if not hung else 0)
        if ended:
            break
        if time.monotonic() > deadline:
            hung = True
            _end(pid)
        time.sleep(POLL)
    _end(pid)  # what it started and left running
    code = os.waitstatus_to_exitcode(status)
    stdout, stderr = (path.read_bytes().decode(errors="backslashreplace") for path in streams)
    return Outcome(
        folder,
        None if code < 0 else code,
        stdout,
        stderr,
        hung,
        usage.ru_maxrss * 1024 - int((folder.parent / RESIDENT).read_text()) > limits.peak,
        tuple(sorted(files(folder) - before)),
        max(0, -code),
    )


def command_line(arguments: tuple[str, ...]) -> Callable[[], None]:
    """The command line's own entry."""

    def work() -> None:
        from onnxplain import cli

        cli.app(list(arguments))

    return work


def new_process(arguments: tuple[str, ...]) -> Callable[[], None]:
    """The same as a user starts it."""
    program = [sys.executable, str(ROOT / "cli.py"), *arguments]
    return lambda: os.execv(sys.executable, program)


def files(folder: Path) -> set[str]:
    """The names of all files below a folder, without following links to folders."""
    return {os.path.relpath(Path(place, name), folder) for place, _, names in os.walk(folder) for name in names}


def _child(work: Callable[[], None], folder: Path, streams: tuple[Path, Path], limits: Limits) -> None:
    """Never returns."""
    status = 1
    try:
        os.setsid()
        for number, path in zip((1, 2), streams, strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        most = _pages(5) + limits.most
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limits.seconds * 4) + 1,) * 2)  # all threads together
        (folder.parent / RESIDENT).write_text(str(_pages(1)))
        os.chdir(folder)
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _pages(column: int) -> int:
    """Bytes of this process: column 1 of statm is what is resident, 5 data and stack."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
