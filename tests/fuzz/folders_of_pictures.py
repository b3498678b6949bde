"""Folders of pictures with odd names, links, pipes, devices and files that are no pictures."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.cases import Case, Outcome
from tests.fuzz.images import SAVED, encoded, noise
from tests.fuzz.mutators import mutate_bytes
from tests.fuzz.pictures import ARTIFACT, compare_top, decoded, logits

ODD_NAMES = (
    "[bold]x[red].png", "a b.png", "-x.png", "--method.png", "ü猫.png", "line\nbreak.png", "\x1b[31mred.png",
    "\u202egnp.png", "x" * 240 + ".png", "x" * 200 + ".png", os.fsdecode(b"caf\xe9.png"), ".hidden.png", "a.PNG",
    "error: x.png", "tab\t.png", "'quote\".png", "$(touch ran).png", "a.png.png", "%s%n.png", "\\.png", "*.png",
    "\x7f.png", "\u0085.png",
)  # fmt: skip


def prepare(base: Path) -> None:
    """The artifact that is asked."""
    from tests.helpers.tiny_artifact import build

    build(base / ARTIFACT)


def _fifo(path: Path, rng: random.Random) -> None:
    os.mkfifo(path)


def _loop(path: Path, rng: random.Random) -> None:
    path.symlink_to(path.name)


def _to(target: str) -> Callable[[Path, random.Random], None]:
    return lambda path, rng: path.symlink_to(target)


def _empty(path: Path, rng: random.Random) -> None:
    path.touch()


def _damaged(path: Path, rng: random.Random) -> None:
    path.write_bytes(mutate_bytes(encoded(rng.randrange(len(SAVED)))[1], rng)[0][:60])


def _folder(path: Path, rng: random.Random) -> None:
    path.mkdir()
    noise(20, 20).save(path / "inner.png")


def _closed(path: Path, rng: random.Random) -> None:
    noise(20, 20).save(path)
    path.chmod(0)


FOLDER_AGAIN = "a link to its folder"
# What may lie among the pictures
BAD: dict[str, Callable[[Path, random.Random], None]] = {
    "a pipe": _fifo, "a link to itself": _loop, "a link to nothing": _to("nothing"), FOLDER_AGAIN: _to("."),
    "a link to /dev/zero": _to("/dev/zero"), "a link to a terminal": _to("/dev/tty"),
    "a link to the input": _to("/dev/stdin"), "an empty file": _empty, "a damaged picture": _damaged,
    "a folder": _folder, "a closed file": _closed,
}  # fmt: skip


def make(rng: random.Random, base: Path, folder: Path) -> Case:
    """One to three pictures, by odd names or not, beside what is none."""
    shutil.copy(base / ARTIFACT, folder)
    inside = folder / "pictures"
    inside.mkdir()
    names = [*rng.sample(ODD_NAMES, rng.choice((0, 1, 2))), "good.png"]
    for seed, name in enumerate(names):
        noise(60 + seed, 40, seed=seed).save(inside / name)
    listed = rng.random() < 0.4  # then a link to the folder would rightly have all of it explained again
    bad = rng.sample([kind for kind in BAD if not listed or kind != FOLDER_AGAIN], rng.choice((0, 1, 1, 2)))
    for number, kind in enumerate(bad):
        BAD[kind](inside / f"bad-{number}.png", rng)
    each = sorted(f"pictures/{item.name}" for item in inside.iterdir())
    given = each if listed else ["pictures"]
    rest = ("--method", "rollout", "--device", "cpu", "--output", "out")
    return Case(
        f"{names[:-1]} beside {', '.join(bad) or 'nothing'}",
        ("explain", *rest, ARTIFACT, *given),
        lambda outcome: judge(outcome, names),
        apart=True,
        allowed=r"out/[^/]+\.rollout\.[a-z-]+\.png",  # odd names are printed otherwise than they are
    )


def judge(outcome: Outcome, names: list[str]) -> str | None:
    """Whether each picture was explained, rightly."""
    if "ran" in outcome.new_files:
        return "something was run"
    blocks = [block for block in outcome.stdout.split("\n\n") if " pixels\n" in block]
    for seed, name in enumerate(names):
        mine = [block for block in blocks if f", {60 + seed} x 40 pixels" in block]
        if len(mine) != 1:
            return f"{name!r} was explained {len(mine)} times"
        fault = compare_top(mine[0], logits(decoded(outcome.folder / "pictures" / name), outcome.folder / ARTIFACT))
        if fault:
            return f"{name!r}: {fault}"
    overlays = [name for name in outcome.new_files if name.startswith("out/")]
    explained = len(blocks)
    return None if len(overlays) == explained else f"{len(overlays)} overlays of {explained} pictures explained"
