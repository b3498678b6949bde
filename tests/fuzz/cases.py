"""What a case is, what came of it, and what that is called."""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERDICTS = ("clean error", "correct", "traceback", "crash", "hang", "silently wrong")
BAD = VERDICTS[2:]
LONGEST = 2000  # characters of a line on standard error


@dataclass(frozen=True)
class Outcome:
    """How a process ended. `status`: None if a signal ended it; `folder`: where it ran, with what it left there."""

    folder: Path
    status: int | None
    stdout: str
    stderr: str
    hung: bool = False
    too_large: bool = False
    new_files: tuple[str, ...] = ()
    signal: int = 0

    @property
    def finding(self) -> Any:
        """What the process found out about itself, by `Case.work`; None if it came to no end."""
        path = self.folder.parent / "finding.json"
        return json.loads(path.read_text()) if path.exists() else None


@dataclass(frozen=True)
class Case:
    """One input to the command line.

    `arguments`: of the command line, which is run in the case's folder. `judge`: what is wrong with an outcome that
    looks well, None if nothing is. `work`: in place of the command line, for what would take too long as a whole.
    `apart`: the judge decodes what may be hostile, or starts threads, and gets a process of its own. `allowed`: a
    pattern of files that may be left behind without a word.
    """

    about: str
    arguments: tuple[str, ...]
    judge: Callable[[Outcome], str | None]
    work: Callable[[], None] | None = None
    apart: bool = False
    allowed: str = field(default="(?!)")


def verdict(case: Case, outcome: Outcome, judged: Callable[[], str | None]) -> tuple[str, str]:
    """One of VERDICTS and why; `judged` calls the case's judge where it is needed."""
    if outcome.hung:
        return "hang", "took more time than the limit"
    if outcome.status is None:
        return "crash", f"ended by signal {outcome.signal}"
    if outcome.too_large:
        return "crash", "took more memory than the limit"
    fault = _dirt(outcome)
    if fault is not None:
        return "traceback", fault
    left = [name for name in outcome.new_files if not (name in outcome.stdout or re.fullmatch(case.allowed, name))]
    if left:
        return "silently wrong", f"left {', '.join(left[:3])}"
    fault = judged()
    if fault is not None:
        return "silently wrong", fault
    return ("correct", "") if outcome.status == 0 else ("clean error", outcome.stderr.splitlines()[0])


def _dirt(outcome: Outcome) -> str | None:
    """What of the messages or the status a user should not have seen."""
    lines = outcome.stderr.splitlines()
    messages = [line for line in lines if not line.startswith("warning: ")]
    odd = [line for line in messages if not line.startswith("error: ") or len(line) > LONGEST]
    if odd or outcome.status not in (0, 2):
        return f"status {outcome.status}: {(odd or lines or ['no message'])[-1][:LONGEST]}"
    if (outcome.status == 0) != (not messages):
        return f"status {outcome.status} with {len(messages)} lines on standard error"
    if "Traceback" in outcome.stdout:
        return "a traceback on standard output"
    for text in (outcome.stdout, outcome.stderr):
        control = {letter for letter in text if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf")}
        if control:
            return f"control characters reach the terminal: {sorted(control)!r}"
    return None
