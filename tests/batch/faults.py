"""Batches that are killed again and again: does every image have one row in the end, and how often was it computed?

    python -m tests.batch.faults [--victim NAME] [--kills 10] [--images 2000] [--bad 0.01] [--seed 0]

The images are scenes of the demo, in files. What is counted is how often the graph computes each of them, which
counting/sitecustomize.py notes before each run in whatever process.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from PIL import Image

from onnxplain.demo import ARTIFACT
from onnxplain.demo.scenes import scene
from tests.helpers.processes import descendants

ROOT = Path(__file__).parents[2]
COUNTING = Path(__file__).parent / "counting"
ACTOR = "_RayWorker"  # in the title of Ray's worker processes
VICTIMS = {
    "alone": [],
    "worker": ["--jobs", "2"],
    "driver": ["--jobs", "2"],
    "actor": ["--ray", "--jobs", "2"],
    "driver-of-actors": ["--ray", "--jobs", "2"],
}
"""Which process is killed: by name, and how the command is run."""
PAUSE = 0.5, 4.0  # seconds between two kills, at least and at most
START = {"driver-of-actors": 7.0}  # seconds that are added, as until then there is no actor


def write_images(folder: Path, count: int, bad: float, chance: random.Random) -> set[str]:
    """Write the scenes, some of them damaged; returns the names of these."""
    folder.mkdir()
    damaged = set(chance.sample([f"{number:05}.png" for number in range(count)], round(bad * count)))
    for number in range(count):
        path = folder / f"{number:05}.png"
        Image.fromarray(scene(number).image).save(path, compress_level=1)
        if path.name in damaged:
            path.write_bytes(path.read_bytes()[: chance.randrange(60, 2000)])
    return damaged


def find_victim(driver: int, victim: str, chance: random.Random) -> int | None:
    """A process to kill, if there is one."""
    if victim in ("alone", "driver", "driver-of-actors"):
        return driver
    mark = ACTOR if victim == "actor" else "multiprocessing.spawn"
    return chance.choice([number for number, title in descendants(driver) if mark in title] or [None])


def batch(victim: str, images: Path, output: Path, shard: int) -> subprocess.Popen[bytes]:
    """Start the command."""
    arguments = ["batch", ARTIFACT, images, "--output", output, "--shard-size", shard, "--json", *VICTIMS[victim]]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(COUNTING), os.environ.get("PYTHONPATH", "")]),
        "COMPUTED": str(output.parent / "computed"),
    }
    with (output.parent / "stdout").open("w") as stdout, (output.parent / "stderr").open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, ROOT / "cli.py", *map(str, arguments)],
            stdout=stdout,
            stderr=stderr,
            cwd=output.parent,
            env=environment,
        )


def run(folder: Path, victim: str, kills: int, count: int, bad: float, seed: int) -> dict[str, object]:
    """Run a batch to its end, with so many kills at random moments; returns what was counted.

    Raises:
        AssertionError: If an image has no row or several, was computed three times, or is wrongly said to be bad.
    """
    chance, images, output = random.Random(seed), folder / "images", folder / "out"
    damaged = write_images(images, count, bad, chance)
    listed = folder / "images.txt"
    listed.write_text("".join(f"images/{path.name}\n" for path in sorted(images.iterdir())))
    killed, started = 0, 1
    process = batch(victim, listed, output, max(1, count // 10))
    while True:
        try:
            process.wait(START.get(victim, 0) + chance.uniform(*PAUSE) if killed < kills else None)
        except subprocess.TimeoutExpired:
            found = find_victim(process.pid, victim, chance)
            if found is None:
                continue
            os.kill(found, signal.SIGKILL)
            killed += 1
        else:
            if process.returncode != -signal.SIGKILL:
                break
            process, started = batch(victim, listed, output, max(1, count // 10)), started + 1
    status, errors = process.returncode, (folder / "stderr").read_text()
    time.sleep(1)  # a process that outlived a driver is gone by then
    table = pq.read_table(output, columns=["key", "error", "error_kind"])
    rows = Counter(Path(key).name for key in table["key"].to_pylist())
    assert status == (2 if bad else 0), (status, errors)
    printed = (folder / "stdout").read_text()
    assert printed.startswith("{") and json.loads(printed)["images"] == count, printed  # and nothing else
    assert rows == Counter(f"{number:05}.png" for number in range(count)), "not one row for each image"
    kinds = Counter(table["error_kind"].to_pylist())
    given_up = kinds["process ended"]
    wrong = {Path(row["key"]).name for row in table.to_pylist() if row["error"] is not None}
    assert wrong >= damaged and len(wrong - damaged) <= given_up, wrong ^ damaged
    computed = Counter((folder / "computed").read_text().split())
    most = max(computed.values())
    assert most <= 2, f"an image was computed {most} times"
    assert len(computed) >= count - len(damaged) - given_up
    again = sum(times > 1 for times in computed.values())
    left = [path.name for path in (output / "_unfinished").iterdir()]
    assert not left, left
    return {
        "victim": victim,
        "kills": killed,
        "starts": started,
        "computed twice": again,
        "given up": given_up,
        "bad": len(damaged),
    }


def main(
    victim: Annotated[str, typer.Option()] = "worker",
    kills: int = 10,
    images: int = 2000,
    bad: float = 0.01,
    seed: int = 0,
) -> None:
    """Run one batch, and print what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), victim, kills, images, bad, seed))


if __name__ == "__main__":
    typer.run(main)
