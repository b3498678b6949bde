"""The command probe: a head for classes of one's own, and how good it is."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Option

from onnxplain.catalog import find_row
from onnxplain.commands import arguments, display, reporting
from onnxplain.commands.find_images import figures_skipped
from onnxplain.commands.model_options import ModelOptions
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import Force, Model, Quiet

if TYPE_CHECKING:
    from onnxplain.export import ProbeReport

MAX_LISTED = 20  # classes that have a line each; of more there is no table


@with_groups
def probe(
    context: typer.Context,
    model: Model,
    data: Annotated[Path, Option(metavar="FOLDER", help="Images, those of each class in a folder named after it.")],
    test: Annotated[
        Path | None, Option(metavar="FOLDER", help="Images like those, to measure on, instead of some held out.")
    ] = None,
    held_out: Annotated[
        float | None,
        Option(metavar="SHARE", help="Of each class's images, to measure on.", show_default="0.2"),
    ] = None,
    seed: Annotated[int, Option(metavar="N", min=0, help="Of the choice of those held out.")] = 0,
    c: Annotated[
        float | None,
        Option(
            "--C",
            metavar="C",
            help="Inverse strength of the L2 regularisation, as in scikit-learn.",
            show_default="the best by cross-validation",
        ),
    ] = None,
    *,
    options: ModelOptions,
    output: Annotated[
        str | None,
        Option(metavar="FILE", help="The head to write.", show_default="<name>.head.safetensors in artifacts/"),
    ] = None,
    cache: Annotated[
        Path | None,
        Option(metavar="FILE", help="Keeps the features.", show_default="beside the head"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Give a model classes of your own: fit a linear head on its features of images, and measure it.

    The model itself is not changed. The head is for export, which puts it
    on the same model. Images that cannot be read are left out, and listed
    at the end. Figures that explain has written are skipped.
    """
    find_row(model)
    path = arguments.head_path(output, model)
    size, preprocessing = options.size, options.preprocessing
    arguments.check_new_file(path, force)
    if cache is not None:
        arguments.check_writable(cache.parent, "--cache")
    console = display.make_console(quiet)
    with display.stages(console, "importing PyTorch") as tell:
        package = arguments.export_package()
        split = package.split_images(data, test, held_out, seed)
        tell(f"loading {model}")
        with reporting.warnings_shown():
            backbone = package.load_features(
                model, options.checkpoint, options.random_init, size, options.head_pooling, tell, preprocessing
            )
    with _progress(console) as progress:
        report = package.probe(backbone, split, path, c, cache, progress)
    _show(console, report)
    if split.figures_skipped:
        console.print(figures_skipped(split.figures_skipped))
    console.print(f"wrote {path}: {display.file_size(path)}", soft_wrap=True)
    command = shlex.join(["export", "--model", model, *options.words(), "--head", str(path)])
    console.print(f"try: {context.find_root().info_name} {command}", soft_wrap=True)
    for message in report.skipped:
        reporting.print_error(message)
    if report.skipped:
        raise typer.Exit(2)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """What is to be called with what is done, how much of it, and of how much."""
    with display.Bars(console) as bars:
        bar = bars.add_task("", total=None)
        yield lambda stage, done, total: bars.update(bar, description=stage, completed=done, total=total)


def _show(console: Console, report: "ProbeReport") -> None:
    """How the head was found, and how many of the images held out it gets right."""
    held_out = sum(report.held_out)
    console.print(
        f"{report.fitted + held_out} images of {len(report.labels)} classes: {report.fitted} to fit on, {held_out} "
        f"held out; features of {report.computed} computed, all kept in {report.cache}",
        soft_wrap=True,
    )
    if report.tried:
        tried = display.table("C", "accuracy in cross-validation", right=("C", "accuracy in cross-validation"))
        for value, accuracy in report.tried.items():
            tried.add_row(f"{value:g}", f"{accuracy:.1%}", style="bold" if value == report.C else None)
        console.print(tried)
    if len(report.labels) <= MAX_LISTED:
        classes = display.table("class", "held out", "right", right=("held out", "right"))
        for label, right, count in zip(report.labels, report.correct, report.held_out, strict=True):
            classes.add_row(label, str(count), f"{right / count:.1%}")
        console.print(classes)
    console.print(
        f"held-out accuracy with C = {report.C:g}: {report.accuracy:.1%}, {sum(report.correct)} of {held_out}; the "
        f"most frequent class alone would give {max(report.held_out) / held_out:.1%}",
        soft_wrap=True,
    )
    if report.repeated:
        console.print(f"{report.repeated} of those held out are also among those fitted on", soft_wrap=True)
