"""Cases handed to servers that run side by side."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from queue import Queue
from typing import Any

KINDS = ("artifacts", "pictures", "checkpoints", "folders")
ORDER = (*KINDS, "artifacts", "pictures", "folders", "artifacts", "pictures", "checkpoints")
"""The kinds, each as often as is its share of the cases."""
ROOT = Path(__file__).resolve().parents[2]


class Server:
    """One process that runs cases, and its folder."""

    def __init__(self, folder: Path, seed: int, kinds: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", str(folder), str(seed), ",".join(kinds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def run(self, kind: str, number: int, keep: Path | None = None) -> dict[str, Any]:
        """What came of a case; its files stay in `keep`."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{kind} {number}{f' {keep.resolve()}' if keep else ''}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended at case {kind}:{number}, which is a defect of the harness")
        result: dict[str, Any] = json.loads(line)
        return result

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def servers(count: int, seed: int, kinds: Sequence[str]) -> Iterator[list[Server]]:
    """So many servers, which end with the context."""
    with tempfile.TemporaryDirectory(prefix="onnxplain-fuzz-") as folder:
        started = [Server(Path(folder, str(index)), seed, kinds) for index in range(count)]
        try:
            yield started
        finally:
            for server in started:
                server.close()


def numbered(kinds: Sequence[str], count: int) -> list[tuple[str, int]]:
    """The first cases of these kinds, in their shares; each kind counts for itself, from 0."""
    seen: Counter[str] = Counter()
    cases = []
    for kind in islice(cycle([kind for kind in ORDER if kind in kinds]), count):
        cases.append((kind, seen[kind]))
        seen[kind] += 1
    return cases


def run(cases: Sequence[tuple[str, int]], seed: int, jobs: int) -> Iterator[dict[str, Any]]:
    """What came of each case, as they end."""
    kinds = [kind for kind in KINDS if kind in {kind for kind, _ in cases}]
    free: Queue[Server] = Queue()
    done: Queue[dict[str, Any] | BaseException] = Queue()

    def one(case: tuple[str, int]) -> None:
        server = free.get()
        try:
            done.put(server.run(*case))
        except BaseException as error:
            done.put(error)
        finally:
            free.put(server)

    with servers(jobs, seed, kinds) as started, ThreadPoolExecutor(jobs) as pool:
        for server in started:
            free.put(server)
        for case in cases:
            pool.submit(one, case)
        for _ in cases:
            result = done.get()
            if isinstance(result, BaseException):
                pool.shutdown(cancel_futures=True)
                raise result
            yield result
