"""Artifacts: damaged, of another graph, with metadata that lie or are no metadata; opened, described and asked.

The right answer is that of the undamaged artifact, or none: what is printed and drawn must be the same to the last
byte. Where an artifact ends with the digest of its content, half of those whose structure is changed get the digest of
what they are now: such a forgery may say anything, but it may do no harm.
"""

import filecmp
import hashlib
import io
import random
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from pathlib import Path

import onnx

from tests.fuzz import sandbox
from tests.fuzz.cases import Case, Outcome
from tests.fuzz.images import noise
from tests.fuzz.mutators import mutate_bytes
from tests.fuzz.onnx_mutators import GRAPH, metadata_changed, nested, written
from tests.fuzz.zips import mutate_zip

DIGEST = 64  # characters at the end of an artifact
QUESTIONS = (
    ("explain", "--method", "rollout"),
    ("explain", "--method", "transformer_attribution", "--target", "2", "--target", "-2"),
    ("explain", "--method", "attnlrp", "--target", "tiger cat"),
    ("explain", "--method", "vit_reciprocam"),
    ("explain", "--method", "smoothgrad", "--samples", "2"),
    ("explain",),
    ("info",),
)


def imports() -> None:
    """Import what the command line needs: what is made once is then there for all."""
    import cmap
    import torch
    from PIL import Image

    Image.init()
    torch.set_num_threads(1)
    cmap.Colormap("viridis")(0.5)
    ask_in_vain("explain", "no.onnx", "no.png")


def ask_in_vain(*arguments: str) -> None:
    """Have the command line import what it imports late, for a question that it refuses before it starts anything."""
    from onnxplain import cli

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), suppress(SystemExit):
        cli.app(list(arguments))


def prepare(base: Path) -> None:
    """An artifact of each format, what is kept of the first, and a picture."""
    from onnxplain.runtime import Explainer
    from tests.fuzz.scripted import save_scripted
    from tests.helpers.tiny_artifact import build

    build(base / "tiny.onnx")
    save_scripted(base / "tiny.pt")
    noise(60, 40).save(base / "picture.png")
    shutil.copytree(base, base.parent / "cached")
    Explainer(base.parent / "cached" / "tiny.onnx", "cpu", cache=True)


def make(rng: random.Random, base: Path, folder: Path) -> Case:
    """A damaged artifact and a question to it."""
    kind = rng.choices(("bytes", "graph", "metadata", "cache", "torchscript"), (5, 6, 6, 2, 2))[0]
    name = "tiny.pt" if kind == "torchscript" else "tiny.onnx"
    question = rng.choice(QUESTIONS[:1] + QUESTIONS[-1:] if kind == "torchscript" else QUESTIONS)
    shutil.copy(base / "picture.png", folder)
    if kind == "cache":
        question = rng.choice(QUESTIONS[:-1])
        shutil.copytree(base.parent / "cached", folder, dirs_exist_ok=True)
        about = _damaged_cache(rng, folder / "tiny.onnx.cache")
        arguments = (*_asked(question, name), "--cache")
    else:
        data, about = _damaged(rng, kind, (base / name).read_bytes())
        if kind != "bytes" and rng.random() < 0.5 and forged(data) != data:
            data, about = forged(data), f"forged, {about}"
        (folder / name).write_bytes(data)
        arguments = (*_asked(question, name), *trusting(name, rng))
    right = answered(base, (*_asked(question, name), *trusting(name)))
    judge = _judge_forged if about.startswith("forged") else partial(_judge, right=right)
    return Case(f"{kind}: {about}", arguments, judge, allowed=r".*\.cache/.*")


def forged(data: bytes) -> bytes:
    """The file with the digest at its end made that of its content; as it is where it ends with none."""
    if not re.fullmatch(rb"[0-9a-f]{64}", data[-DIGEST:]):
        return data
    return data[:-DIGEST] + hashlib.sha256(data[:-DIGEST]).hexdigest().encode()


def _asked(question: tuple[str, ...], name: str) -> tuple[str, ...]:
    command, *options = question
    return (command, name, *(["picture.png"] if command == "explain" else []), *options)


def trusting(name: str, rng: random.Random | None = None) -> tuple[str, ...]:
    """The option that a TorchScript file needs, mostly."""
    import inspect

    from onnxplain import cli

    known = "trust" in inspect.signature(cli.explain).parameters
    return ("--trust",) if known and name.endswith(".pt") and (rng is None or rng.random() < 0.8) else ()


def _damaged(rng: random.Random, kind: str, data: bytes) -> tuple[bytes, str]:
    if kind == "bytes":
        return mutate_bytes(data, rng)
    if kind == "torchscript":
        return mutate_zip(data, rng, json_record="onnxplain") if rng.random() < 0.7 else mutate_bytes(data, rng)
    if kind == "graph" and rng.random() < 0.03:
        depth = rng.choice((10, 50, 100, 1000, 20_000))
        return data + nested(depth), f"{depth} graphs in each other"
    model = onnx.load_from_string(data)
    about = metadata_changed(model, rng) if kind == "metadata" else rng.choice(GRAPH)(model, rng)
    return written(model), about


def _damaged_cache(rng: random.Random, kept: Path) -> str:
    path = rng.choice(sorted(path for path in kept.rglob("*") if path.is_file()))
    data, about = mutate_bytes(path.read_bytes(), rng)
    path.write_bytes(data)
    return f"{path.name}: {about}"


@cache
def answered(base: Path, arguments: tuple[str, ...]) -> Outcome:
    """What the undamaged files answer, each in a folder of its own."""
    folder = base.parent / "answers" / str(len(list(base.parent.glob("answers/*")))) / "work"
    shutil.copytree(base, folder)
    outcome = sandbox.run(sandbox.command_line(arguments), folder)
    if outcome.status != 0:
        raise RuntimeError(f"the undamaged artifact is refused: {outcome.stderr}")
    return outcome


def _judge_forged(outcome: Outcome) -> str | None:
    """Of a file that is what its digest says any answer may come, but numbers."""
    if outcome.status != 0:
        return _unasked(outcome)
    return "an answer that is no number" if re.search(r"\b(nan|inf)\b", outcome.stdout) else None


def _unasked(outcome: Outcome) -> str | None:
    return f"printed {outcome.stdout.splitlines()[0]!r} beside the error" if outcome.stdout else None


def _judge(outcome: Outcome, right: Outcome) -> str | None:
    if outcome.status != 0:
        return _unasked(outcome)
    first = 0 if "picture.png" in right.stdout else 1  # `info` begins with the size of the file
    given, wanted = (one.stdout.splitlines()[first:] for one in (outcome, right))
    for line, other in zip(given, wanted, strict=False):
        if line != other:
            return f"says {line!r}, the undamaged file {other!r}"
    if len(given) != len(wanted):
        return f"prints {len(given)} lines, the undamaged file {len(wanted)}"
    pictures = [name for name in outcome.new_files if name.endswith(".png")]
    if pictures != [name for name in right.new_files if name.endswith(".png")]:
        return f"wrote {pictures}"
    different = [
        name for name in pictures if not filecmp.cmp(outcome.folder / name, right.folder / name, shallow=False)
    ]
    return f"another heatmap: {different[0]}" if different else None
