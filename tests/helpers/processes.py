"""Processes that tests start: what they heed, and which they start themselves."""

import signal
from pathlib import Path


def descendants(process: int) -> list[tuple[int, str]]:
    """(number, title) of all processes below one."""
    parents, titles = {}, {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                stat, title = (path / "stat").read_text(), (path / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(path.name)] = int(stat.rpartition(")")[2].split()[1])
            titles[int(path.name)] = title.replace(b"\0", b" ").decode(errors="replace")
    found, last = [], {process}
    while last:
        last = {number for number, parent in parents.items() if parent in last}
        found += [(number, titles[number]) for number in sorted(last)]
    return found


def heed_signals() -> None:
    """Have a new process (`preexec_fn`) heed signals that the tests' own may ignore, as under nohup or behind an &."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
