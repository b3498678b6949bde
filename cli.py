"""The command line: typer commands over onnxplain.export and onnxplain.runtime, which are imported when needed."""

import itertools
import json
import logging
import os
import re
import shlex
import sys
import tempfile
import time
import unicodedata
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

if TYPE_CHECKING:
    from onnxplain.runtime import Explanation, Metadata, OnnxplainError

PROGRAM = f"python {sys.argv[0]}" if __name__ == "__main__" else "onnxplain"
DEBUG = "ONNXPLAIN_DEBUG"  # the environment variable that shows tracebacks and what libraries warn of
PIPE_WIDTH = 1000  # columns where the output is no terminal: no table row is broken there
BATCH_BYTES = 2**30  # of attention, gradient and relevance; a batch of long token sequences would not fit in memory
MAX_BATCH = 8
IMAGE_SUFFIXES = frozenset(".avif .bmp .gif .jfif .jpeg .jpg .jp2 .pgm .png .ppm .tif .tiff .webp".split())


class OneLineErrors(TyperGroup):
    """The group of commands; whatever goes wrong in them ends as one line on standard error and an exit status."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:
        """Exit with 0, with 2 after a mistake of the user, 130 after Ctrl-C, 1 after an error of this program."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a file name need not be valid text, nor the terminal take every letter
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            with _quiet():
                status = super().main(args, prog_name or PROGRAM, **{**extra, "standalone_mode": False})
        except Exception as error:
            status = _report(error)
        sys.exit(status or 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the base class would turn Ctrl-C into a silent exit."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _print_error("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=OneLineErrors,
    help="Explain Vision Transformers: export one as an ONNX file, then see where it looks, without PyTorch.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def export(
    model: Annotated[str, typer.Option(help="vit, deit, demo, or timm/<name>; see the command models.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights to use instead of the published ones, .safetensors or .pth.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(min=1, help="Classes of the head, if not the model's own.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names: one per line, or a JSON list.")] = None,
    image_size: Annotated[str | None, typer.Option(metavar="N|HxW", help="Input size in pixels.")] = None,
    output: Annotated[Path | None, typer.Option(help="The file to write.", show_default="artifacts/<name>.onnx")] = None,
    passes: Annotated[
        list[str] | None,
        typer.Option(help="What the file can compute beside attention.", show_default="gradient,relevance"),
    ] = None,
    opset: Annotated[int, typer.Option(min=18, help="ONNX opset version.")] = 20,
    random_init: Annotated[bool, typer.Option("--random-init", help="No trained weights, for trying out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
) -> None:
    """Turn a Vision Transformer into one ONNX file that can explain itself, and check it against PyTorch.

    A file that does not compute what the model computes is not written.
    """
    path = output or Path("artifacts") / f"{model.rpartition('/')[2]}.onnx"
    size = None if image_size is None else _parse_size(image_size)
    wanted = _parse_passes(passes)
    names = None if labels is None else _read_labels(labels)
    _check_new_file(path, force)
    console = _console()
    started = time.monotonic()
    with console.status("importing PyTorch") as status:
        load_backbone, export_model, _ = _export_package()
        status.update(f"loading {model}")
        backbone = load_backbone(model, checkpoint, random_init, num_classes, size, names)
        try:
            report = export_model(backbone, path, passes=wanted, opset=opset, progress=status.update)
        except _mistakes() as error:
            if hasattr(error, "report"):  # the gate's
                console.print(_parity_table(error.report.to_dict()))
            raise
    console.print(_parity_table(report.to_dict()))
    console.print(f"wrote {path}: {_file_size(path)} in {time.monotonic() - started:.0f} s", soft_wrap=True)
    console.print(f"try: {PROGRAM} explain {shlex.quote(str(path))} IMAGE", soft_wrap=True)


@app.command()
def explain(
    artifact: Annotated[Path, typer.Argument(help="A file that export wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures, and folders of pictures.")],
    method: Annotated[
        str | None, typer.Option(help="See the command methods.", show_default="the best the file has the passes for")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="The class to explain: its index, its label, or a rank (-1 the top-1 class, -2 the runner-up, …). "
            "Can be repeated.",
            show_default="-1",
        ),
    ] = None,
    head_fusion: Annotated[str | None, typer.Option(metavar="mean|max|min", help="How heads become one.")] = None,
    discard_ratio: Annotated[float | None, typer.Option(help="Share of the lowest attention left out.")] = None,
    start_layer: Annotated[int | None, typer.Option(help="First layer that counts, from 0.")] = None,
    output: Annotated[Path, typer.Option(help="The folder to write into.")] = Path(),
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto",
) -> None:
    """Show what a model sees in pictures, and where: the top classes, and a heatmap over each picture.

    Heatmaps are written as <picture>.<method>.<class>.png; no file is ever replaced.
    """
    from onnxplain.runtime import Explainer

    given = {"head_fusion": head_fusion, "discard_ratio": discard_ratio, "start_layer": start_layer}
    parameters = {name: value for name, value in given.items() if value is not None}
    targets = target or ["-1"]
    pictures = _find_pictures(images)
    _check_writable(output)
    console = _console()
    started = time.monotonic()
    with console.status(f"loading {artifact}"):
        explainer = Explainer(artifact, device)
    batch_size = _batch_size(explainer.metadata, len(targets))

    def explained(paths: Iterator[Path]) -> Iterator[list["Explanation"]]:
        return explainer.explain(paths, targets, method, batch_size, **parameters)

    errors = []
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("explaining", total=len(pictures))
        for picture, answer in _answers(explained, pictures):
            if isinstance(answer, list):
                _show(console, picture, answer, output)
            else:
                errors.append(str(answer) if str(picture) in str(answer) else f"{picture}: {answer}")
            progress.advance(task)
    if len(pictures) > 1:
        done = f"explained {len(pictures) - len(errors)} of {len(pictures)} pictures"
        console.print(f"{done} in {time.monotonic() - started:.1f} s on {explainer.device}")
    for message in errors:
        _print_error(message)
    if errors:
        raise typer.Exit(2)


@app.command()
def models() -> None:
    """List the models that export knows."""
    *_, rows = _export_package()
    table = _table("model", "timm's name", "what it is")
    for row in rows.values():
        table.add_row(row.name, row.timm_name, row.about)
    table.add_row("demo", "", "small model that comes with onnxplain, for trying out")
    table.add_row("timm/<name>", "<name>", "any Vision Transformer of timm, such as timm/vit_small_patch16_224")
    _console().print(table)


@app.command()
def methods() -> None:
    """List the explanation methods, best first: the passes each needs, its parameters and their defaults."""
    from onnxplain.runtime import METHODS

    table = _table("method", "passes", "parameters", "what the map shows")
    for method in METHODS.values():
        parameters = "\n".join(f"{parameter.name}={parameter.default}" for parameter in method.parameters)
        about = Text.assemble(method.summary, "\n", (method.reference, "dim"))
        table.add_row(Text(method.name, "bold"), "\n".join(method.passes), parameters or "none", about)
        table.add_section()
    console = _console()
    console.print(table)
    console.print("Parameters are options of explain: head_fusion is --head-fusion.", style="dim")


@app.command()
def info(artifact: Annotated[Path, typer.Argument(help="A file that export wrote.")]) -> None:
    """Show what an artifact says about itself: model, classes, preprocessing, passes, and how it was checked."""
    from onnxplain.runtime import Explainer, available_methods

    console = _console()
    with console.status(f"loading {artifact}"):
        metadata = Explainer(artifact, "cpu").metadata
    layout, preprocessing = metadata.layout, metadata.preprocessing
    checksum = metadata.checkpoint["sha256"]
    shown = "; ".join(metadata.labels[:3])
    rows = {
        "file": f"{artifact}, {_file_size(artifact)}",
        "model": metadata.model,
        "checkpoint": f"{metadata.checkpoint['source']}{f', SHA-256 {checksum}' if checksum else ''}",
        "input": f"{' x '.join(map(str, preprocessing.size))} pixels (height x width)",
        "preprocessing": f"{preprocessing.interpolation} resize, {preprocessing.crop_mode} crop "
        f"{preprocessing.crop_pct:g}, mean {_numbers(preprocessing.mean)}, std {_numbers(preprocessing.std)}",
        "labels": f"{len(metadata.labels)}: {shown}{'; …' if len(metadata.labels) > 3 else ''}",
        "scores": f"{metadata.activation} of the logits",
        "patches": f"{' x '.join(map(str, layout.patch_grid))}, after {layout.prefix_tokens} prefix tokens",
        "readout": _readout(metadata),
        "attention": f"{metadata.layers} layers of {metadata.heads} heads, {layout.tokens} tokens",
        "passes": ", ".join(metadata.passes),
        "methods": ", ".join(method.name for method in available_methods(metadata.passes)),
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        grid.add_row(Text(name, "bold"), value)
    console.print(grid)
    if metadata.parity:
        console.print(_parity_table(metadata.parity))
    else:
        console.print("This file holds no parity report: it was not checked against PyTorch.")
