"""The process that forks: it imports what is slow once, writes the undamaged files once, and runs case after case.

`python -m tests.fuzz.server FOLDER SEED KIND,…`; on standard input lines `KIND NUMBER [KEEP]`, on standard output one
line of JSON for each.
"""

import gc
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fuzz import sandbox
from tests.fuzz.cases import Case, Outcome, verdict

REAL = 0.02  # share of the cases that are a new `python cli.py`, not forked


def judged(case: Case, outcome: Outcome) -> str | None:
    """What the case's judge says."""
    if not case.apart:
        return case.judge(outcome)

    def work() -> None:
        print(json.dumps(case.judge(outcome)))

    apart = outcome.folder.parent / "judge" / "work"
    apart.mkdir(parents=True, exist_ok=True)
    given = sandbox.run(work, apart)
    if given.status != 0:
        return f"the judge failed: {(given.stderr.splitlines() or [f'signal {given.signal}, hung {given.hung}'])[-1]}"
    fault: str | None = json.loads(given.stdout.splitlines()[-1])
    return fault


def case_of(kind: str, number: int, seed: int, base: Path, folder: Path) -> tuple[Case, Callable[[], None]]:
    """The case of that number, its files in `folder`, and how it is run."""
    rng = random.Random(f"{seed} {kind} {number}")
    case: Case = import_module(f"tests.fuzz.{kind}").make(rng, base, folder)
    if case.work is not None:
        return case, case.work
    return case, (sandbox.new_process if rng.random() < REAL else sandbox.command_line)(case.arguments)


def answer(kind: str, number: int, seed: int, base: Path, place: Path) -> dict[str, Any]:
    """Run one case and say what came of it."""
    folder = place / "work"
    folder.mkdir(parents=True)
    started = time.monotonic()
    case, work = case_of(kind, number, seed, base, folder)
    outcome = sandbox.run(work, folder)
    name, why = verdict(case, outcome, lambda: judged(case, outcome))
    return {
        "kind": kind,
        "number": number,
        "verdict": name,
        "why": why,
        "about": case.about,
        "arguments": list(case.arguments),
        "seconds": round(time.monotonic() - started, 2),
    }


def prepare(kinds: list[str], base: Path) -> None:
    """Import what the kinds need, and have their undamaged files made in processes apart: this one starts no thread."""
    for kind in kinds:
        module = import_module(f"tests.fuzz.{kind}")
        module.imports()
        folder = base / kind / "work"
        folder.mkdir(parents=True)
        outcome = sandbox.run(lambda module=module, folder=folder: module.prepare(folder), folder, sandbox.Limits(300))
        if outcome.status != 0:
            raise RuntimeError(f"{kind} cannot be prepared: {outcome.stderr}")


def main() -> None:
    """See above."""
    folder, seed, kinds = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    prepare(kinds, folder / "base")
    gc.collect()
    gc.freeze()  # or every process would touch, and copy, all that was imported
    for line in sys.stdin:
        kind, number, *keep = line.split(maxsplit=2)
        place = Path(keep[0].strip()) if keep else folder / f"{kind}-{number}"
        reply = answer(kind, int(number), seed, folder / "base" / kind / "work", place)
        if not keep:
            shutil.rmtree(place)
        print(json.dumps(reply), file=replies, flush=True)
    os._exit(0)  # without what libraries say of themselves when they end


if __name__ == "__main__":
    main()
