"""Images per second of `onnxplain batch`, against a loop that only runs the graph; its memory, and bytes per row.

    python -m benchmarks.batch [--images 20000] [--document docs/performance.md]
    python -m benchmarks.batch --model vit_base_patch16_224 --images 100

The images are scenes of the demo, `onnxplain.demo.scenes.scene(0)` and so on, as PNG files; for other models than the
demo's, which get random weights, photographs as JPEG and PNG files of 500 x 375 pixels. The bare loop runs the same
file in onnxruntime in one process with all cores, for the same outputs, in runs of the same size, with tensors that
are ready; it is timed before and after the command. Starting the command's processes counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console

from onnxplain.contract.outputs import ALWAYS
from onnxplain.demo import ARTIFACT
from onnxplain.demo.scenes import scene
from onnxplain.runtime import Explainer, load_image, preprocess
from onnxplain.runtime.batch_size import images_per_run
from onnxplain.runtime.methods.choice import call_method

from .cost import write_files
from .folder import write_images
from .processes import machine, memory
from .refusing import check_models
from .results import Case, Section, around, number, write_between
from .ways import CPU, WAYS

BEGIN = "<!-- written by benchmarks/batch.py: begin -->"
ROOT = Path(__file__).parents[1]
METHODS = {
    "rollout": "attention",
    "legrad": "gradients",
    "grad_rollout": "gradients",
    "transformer_attribution": "relevance",
}
"""What a method needs: a forward pass only, gradients, or relevance. Only the demo's artifact has what legrad does."""
HOW = {"one process": [], "--jobs 2": ["--jobs", "2"], "--ray --jobs 2": ["--ray", "--jobs", "2"]}
DEMO = "demo"
READY = 1600  # images of the bare loop
INTERVAL = 1.0  # seconds between two looks at the memory
LARGE = 50  # MiB of a process whose memory is told by itself


@dataclass(frozen=True)
class Measured:
    """One run of the command.

    Attributes:
        rate: Images per second.
        share: Of the bare loop's.
        row: Bytes of the files for each image.
        together: The MiB that its processes held together, at most.
        each: The MiB that each process held at most in the four quarters of the run, the largest process first; 0 where
            it did not run.
    """

    rate: float
    share: float
    row: float
    together: float
    each: list[list[float]]


def write_scenes(folder: Path, count: int) -> list[Path]:
    """The scenes, as PNG files."""
    files = [folder / f"{seed:06}.png" for seed in range(count)]
    with Pool() as pool:
        pool.starmap(_write_scene, enumerate(files), 100)
    return files


def _write_scene(seed: int, file: Path) -> None:
    Image.fromarray(scene(seed).image).save(file)


def write_artifact(model: str, folder: Path) -> Path:
    """The model's artifact, for images of 224 pixels, with random weights."""
    write_files(Case(machine(), model, 224, CPU, 1, 1, 1), ["onnx"], folder)
    return folder / str(WAYS["onnx"].file)


def bare_rate(artifact: Path, files: list[Path], method: str) -> float:
    """Images per second of a loop that only runs the graph."""
    explainer = Explainer(artifact, "cpu", packed=True)
    metadata = explainer.metadata
    outputs = metadata.with_pool(call_method(method, {}, metadata).outputs)
    size = images_per_run(explainer.artifact, outputs, 1)
    pixels = [preprocess(load_image(file), metadata.preprocessing)[0] for file in files[:READY]]
    flags = {item.flag: np.array(item.output in outputs) for item in metadata.outputs}
    parts = [np.stack(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    feeds = [{"pixels": part, "target": np.full((len(part), 1), -1), **flags} for part in parts]
    session = explainer.artifact._session  # type: ignore[attr-defined]
    started = time.perf_counter()
    for each in feeds:
        session.run([*ALWAYS, *outputs], each)
    return len(pixels) / (time.perf_counter() - started)


def quarters(held: list[dict[int, float]]) -> list[list[float]]:
    """Of looks at the memory, the most that each process held in each quarter of them; the largest process first."""
    edges = [len(held) * part // 4 for part in range(5)]
    every = {process for look in held for process in look}
    most = [
        [max((look.get(process, 0.0) for look in held[start:end]), default=0.0) for start, end in pairwise(edges)]
        for process in every
    ]
    return sorted(most, key=max, reverse=True)


def run(artifact: Path, files: list[Path], folder: Path, method: str, options: list[str]) -> Measured:
    """Run the command on the files' folder, and measure it."""
    before = bare_rate(artifact, files, method)
    output = folder / "out"
    command = ["batch", artifact, files[0].parent, "--output", output, "--method", method, "--json", *options]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, ROOT / "cli.py", *map(str, command)], stdout=subprocess.PIPE, text=True)
    held = []
    while process.poll() is None:
        held.append({each: kib / 1024 for each, kib in memory(process.pid).items()})
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - started
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.read())
    assert (said["images"], said["errors"]) == (len(files), {}), said
    rate = len(files) / seconds
    bare = (before + bare_rate(artifact, files, method)) / 2
    together = max(sum(look.values()) for look in held)
    found = Measured(rate, rate / bare, said["bytes"] / len(files), together, quarters(held))
    for path in sorted(output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    output.rmdir()
    return found


def main(
    images: int = 20000,
    model: str = DEMO,
    method: Annotated[list[str] | None, typer.Option()] = None,
    way: Annotated[list[str] | None, typer.Option()] = None,
    document: Annotated[Path | None, typer.Option(help="Where the table is to stand.")] = None,
) -> None:
    """Measure each method in each way."""
    if model != DEMO:
        check_models([model])
    if document is not None:
        around(document, BEGIN)
    console = Console()
    rows: list[list[str]] = []
    held: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        with console.status("writing images and the artifact"):
            files = (write_scenes if model == DEMO else write_images)(folder / "images", images)
            artifact = ARTIFACT if model == DEMO else write_artifact(model, folder)
        for one in method or [name for name in METHODS if name != ("grad_rollout" if model == DEMO else "legrad")]:
            for how in way or HOW:
                with console.status(f"{one}, {how}"):
                    found = run(artifact, files, folder, one, HOW[how])
                numbers = number(found.rate), number(found.share), f"{found.row:.0f}"
                rows.append([f"{one} ({METHODS[one]})", how, *numbers])
                large = [each for each in found.each if max(each) >= LARGE]
                together = f"{found.together:.0f}", f"{len(found.each)}"
                series = "; ".join(" ".join(f"{most:.0f}" for most in each) for each in large)
                held.append([one, how, *together, series])
                console.print(" ".join([*rows[-1], *held[-1][2:]]), soft_wrap=True)
    sections = [
        Section(
            f"{images} images, {model}",
            ("method", "way", "images per second", "of the bare loop's", "bytes per row"),
            rows,
        ),
        Section(
            "Memory, MiB",
            ("method", "way", "together", "processes", f"each of {LARGE} or more, in the quarters of the run"),
            held,
        ),
    ]
    for section in sections:
        section.show(console)
    if document is not None:
        tables = "\n\n".join(section.markdown() for section in sections)
        write_between(document, BEGIN, f"Measured on: {machine()}.\n\n{tables}")


if __name__ == "__main__":
    typer.run(main)
