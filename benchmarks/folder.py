"""Images per second of `onnxplain explain folder/`, against a loop that only runs the graph.

    python -m benchmarks.folder [--model vit_base_patch16_224] [--images 64] [--document docs/performance.md]

The folder has photographs as JPEG and PNG files. The bare loop runs the same file in onnxruntime, for the same outputs,
in batches of the same size, with tensors that are ready. All three go through the images in turn, in one process, with
all cores; medians are told. Starting the program and opening the artifact are left out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from onnxplain.commands import display
from onnxplain.commands.destination import Destination
from onnxplain.commands.drawing import draw_ahead
from onnxplain.commands.explainer_options import MANY
from onnxplain.commands.products import Figures
from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime import Explainer, Style, load_image, preprocess
from onnxplain.runtime.batch_size import images_per_run
from onnxplain.runtime.methods.choice import call_method

from .cost import write_files
from .processes import interleaved, machine
from .refusing import check_models
from .results import Case, Record, Section, around, number, write_between
from .ways import CPU, WAYS

BEGIN = "<!-- written by benchmarks/folder.py: begin -->"
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
"""Of skimage.data, which come with it."""
SIZE = (500, 375)
"""Width and height of the images: about what ImageNet's have."""
SHARE = (0.5, 1.0)
"""Of a photograph's height, what an image has at least and at most."""
BARE, EXPLAINED, DRAWN = "bare loop", "explain, without figures", "explain, figures written"
RUNS = 5


def write_images(folder: Path, count: int) -> list[Path]:
    """Different parts of the photographs, the even ones as JPEG, the others as PNG."""
    import skimage.data

    random = np.random.default_rng(0)
    photographs = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    files = [folder / f"{index:03}.{'png' if index % 2 else 'jpg'}" for index in range(count)]
    for index, file in enumerate(files):
        whole = photographs[index % len(photographs)]
        height = int(random.uniform(*SHARE) * whole.height)
        width = min(height * SIZE[0] // SIZE[1], whole.width)
        left, top = (int(random.integers(room + 1)) for room in (whole.width - width, whole.height - height))
        whole.resize(SIZE, box=(left, top, left + width, top + height)).save(file)
    return files


@dataclass(frozen=True)
class Setting:
    """What all loops go through.

    Attributes:
        explainer: The open artifact.
        files: The images.
        method: The artifact's best method.
        outputs: What that needs of the graph.
        batch: How many images a run takes.
    """

    explainer: Explainer
    files: list[Path]
    method: str
    outputs: tuple[str, ...]
    batch: int

    @classmethod
    def of(cls, artifact: Path, files: list[Path]) -> Setting:
        """As the command would have it, of so many images."""
        explainer = Explainer(artifact, CPU, packed=len(files) >= MANY)
        call = call_method(None, {}, explainer.metadata)
        outputs = explainer.metadata.with_pool(call.outputs)
        return cls(explainer, files, call.method.name, outputs, images_per_run(explainer.artifact, outputs, 1))


def batches_of(setting: Setting) -> list[dict[str, NDArray[Any]]]:
    """What the graph is fed, batch by batch."""
    metadata = setting.explainer.metadata
    pixels = [preprocess(load_image(file), metadata.preprocessing)[0] for file in setting.files]
    flags = {item.flag: np.array(item.output in setting.outputs) for item in metadata.outputs}
    parts = [pixels[start : start + setting.batch] for start in range(0, len(pixels), setting.batch)]
    return [{"pixels": np.stack(part), "target": np.full((len(part), 1), -1), **flags} for part in parts]


def bare(setting: Setting, batches: list[dict[str, NDArray[Any]]]) -> list[Any]:
    """Run the graph only; returns what it gives, batch by batch."""
    session = setting.explainer.artifact._session  # type: ignore[attr-defined]
    return [session.run([*ALWAYS, *setting.outputs], feeds) for feeds in batches]


def outcomes(setting: Setting) -> Iterator[Any]:
    """What the command goes through."""
    return setting.explainer.explain_all_many(setting.files, [-1], methods={setting.method: {}}).outcomes()


def explained(setting: Setting) -> None:
    """Explain the images, and leave it at that."""
    for outcome in outcomes(setting):
        assert outcome.error is None, outcome.error


def drawn(setting: Setting) -> None:
    """What the command does, figures written as PNG."""
    console, path = display.make_console(quiet=True), setting.explainer.path
    assert path is not None
    with tempfile.TemporaryDirectory() as folder:
        figures = Figures(Destination(Path(folder), {}, path), Style(), "png")
        for name, outcome in draw_ahead(figures.write, zip(setting.files, outcomes(setting), strict=True)):
            assert outcome.error is None, outcome.error
            display.show(console, name, *outcome.value)


def measure(setting: Setting, runs: int) -> dict[str, Record]:
    """By the loop, what `interleaved` tells of it."""
    loops: dict[str, Callable[[], object]] = {
        BARE: partial(bare, setting, batches_of(setting)),
        EXPLAINED: partial(explained, setting),
        DRAWN: partial(drawn, setting),
    }
    return interleaved({name: partial(_timed, loop) for name, loop in loops.items()}, runs, float("inf"))


def _timed(loop: Callable[[], object]) -> Record:
    start = time.perf_counter()
    loop()
    return {"seconds": time.perf_counter() - start, "peak": None}


def table(found: dict[str, Record], images: int, title: str) -> Section:
    """Images per second, and the share of the bare loop's that is."""
    heads = ("loop", "images per second", "of the bare loop's", "runs")
    best = found[BARE]["seconds"]
    rows = [
        [name, number(images / record["seconds"]), number(best / record["seconds"]), str(record["runs"])]
        for name, record in found.items()
    ]
    return Section(title, heads, rows)


def main(
    model: Annotated[str, typer.Option(help="a model of timm")] = "vit_base_patch16_224",
    images: Annotated[int, typer.Option(help="how many the folder has")] = 64,
    runs: Annotated[
        int, typer.Option(help="how often each loop goes through the folder, beside the first time")
    ] = RUNS,
    document: Annotated[Path | None, typer.Option(help="Markdown with a place for the table")] = None,
) -> None:
    """Measure, and print the table."""
    check_models([model])
    if document is not None:
        around(document, BEGIN)
    console, here = Console(), machine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with console.status("writing the files"):
            write_files(Case(here, model, 224, CPU, 1, 1, 1), ["onnx"], folder)
            files = write_images(folder, images)
        setting = Setting.of(folder / str(WAYS["onnx"].file), files)
        with console.status("explaining"):
            found = measure(setting, runs)
    title = f"{images} images, {model}, {setting.method}, {setting.batch} in a run"
    section = table(found, images, title)
    section.show(console)
    if document is not None:
        write_between(document, BEGIN, f"Measured on: {here}.\n\n{section.markdown()}")


if __name__ == "__main__":
    typer.run(main)
