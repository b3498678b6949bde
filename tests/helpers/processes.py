"""The processes that a process has started, and those that they have started."""

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
