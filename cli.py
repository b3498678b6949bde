"""The command line: typer commands over onnxplain.export and onnxplain.runtime, which are imported when needed."""

import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from onnxplain import cli_batches, cli_errors, cli_input, cli_output, cli_probe
from onnxplain.cli_options import Checkpoint, Force, ImageSize, Model, RandomInit, Trust

PROGRAM = f"python {sys.argv[0]}" if __name__ == "__main__" else cli_errors.PROGRAM

app = typer.Typer(
    cls=cli_errors.OneLineErrors,
    help="Explain Vision Transformers: export one as an ONNX file, then see where it looks, without PyTorch.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(cls=cli_input.SeveralValues)
def export(
    model: Model,
    checkpoint: Checkpoint = None,
    head: Annotated[
        Path | None, Option(metavar="FILE", help="A classification head to put on the model: .safetensors or .pth.")
    ] = None,
    head_pooling: Annotated[
        str | None,
        Option(metavar="cls|mean|cls+mean|own", help="What the head reads.", show_default="what its file says"),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        Option(
            metavar="TEXT… | FILE",
            help="Classes in words, for models with a text encoder: several texts, or a file with one per line.",
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        Option(metavar="TEXT… | FILE", help='Sentences around them, such as "a photo of a {}."; their mean counts.'),
    ] = None,
    num_classes: Annotated[int | None, Option(metavar="N", min=1, help="Classes, if not the model's own.")] = None,
    labels: Annotated[
        Path | None, Option(metavar="FILE", help="Names of the classes: one per line, or a JSON list.")
    ] = None,
    image_size: ImageSize = None,
    output: Annotated[
        Path | None, Option(metavar="FILE", help="The file to write.", show_default="artifacts/<name>.onnx, or .pt")
    ] = None,
    format: Annotated[
        str, Option(metavar="onnx|torchscript", help="PyTorch calls TorchScript deprecated; its files are named .pt.")
    ] = "onnx",
    passes: Annotated[
        list[str] | None,
        Option(
            metavar="PASS,…",
            help="What the file can compute beside attention; the methods need them as the command methods lists.",
            show_default="all that fit in memory",
        ),
    ] = None,
    alpha: Annotated[float, Option(metavar="A", min=1, help="LRP of attention and of full: alpha of its rule.")] = 1.0,
    beta: Annotated[float | None, Option(metavar="B", help="And beta.", show_default="alpha - 1")] = None,
    gamma: Annotated[float, Option(metavar="G", min=0, help="attnlrp and cp_lrp: gamma of their rule.")] = 0.0,
    opset: Annotated[int, Option(metavar="N", min=18, max=23, help="ONNX opset version, 18 to 23.")] = 20,
    random_init: RandomInit = False,
    force: Force = False,
) -> None:
    """Turn a Vision Transformer into one file that explains itself, and compare it with PyTorch.

    If the file does not compute what the model computes, it is not written.
    """
    path = cli_input.artifact_path(output, model, format)
    size = None if image_size is None else cli_input.parse_size(image_size)
    wanted = None if passes is None else cli_input.parse_passes(passes)
    names = None if labels is None else cli_input.read_texts("labels", labels)
    words = None if prompts is None else cli_input.texts("prompts", prompts)
    sentences = () if template is None else cli_input.texts("templates", template)
    cli_input.check_new_file(path, force)
    console = cli_output.make_console()
    started = time.monotonic()
    with console.status("importing PyTorch") as status:
        package = cli_input.export_package()
        status.update(f"loading {model}")
        backbone = package.load_backbone(
            model,
            checkpoint,
            random_init,
            num_classes,
            size,
            names,
            head,
            head_pooling,
            prompts=words,
            templates=sentences,
            progress=status.update,
        )
        try:
            report = package.export_model(
                backbone,
                path,
                format,
                passes=wanted,
                opset=opset,
                alpha=alpha,
                beta=beta,
                gamma=gamma,
                progress=status.update,
            )
        except package.GateError as error:
            console.print(cli_output.parity_table(error.report.to_dict()))
            raise
    console.print(cli_output.parity_table(report.to_dict()))
    console.print(f"wrote {path}: {cli_output.file_size(path)} in {time.monotonic() - started:.0f} s", soft_wrap=True)
    if not backbone.has_classes:
        needed = f"{backbone.name} has no classes, so the file shows attention only; maps of classes need"
        console.print(f"{needed} {package.HOW_TO_GET_CLASSES}", soft_wrap=True)
    trusted = " --trust" if format == "torchscript" else ""
    console.print(f"try: {PROGRAM} explain {shlex.quote(str(path))} IMAGE{trusted}", soft_wrap=True)


app.command()(cli_probe.probe)


@app.command()
def explain(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    images: Annotated[
        list[Path], Argument(metavar="IMAGE", help="Pictures, and folders of pictures; - is one on standard input.")
    ],
    method: Annotated[
        str | None, Option(metavar="NAME", help="See the command methods.", show_default="the file's best")
    ] = None,
    target: Annotated[
        list[str] | None,
        Option(
            metavar="T",
            help="A class: its index, its label, or a rank (-1 the top-1 class, -2 the runner-up, …). Can be repeated.",
            show_default="-1",
        ),
    ] = None,
    head_fusion: Annotated[
        str | None, Option(metavar="mean|max|min", help="How the heads of a layer become one.")
    ] = None,
    discard_ratio: Annotated[
        float | None, Option(metavar="R", help="Share of the lowest attention to leave out.")
    ] = None,
    start_layer: Annotated[int | None, Option(metavar="L", help="The first layer that counts, from 0.")] = None,
    layer: Annotated[
        int | None, Option(metavar="L", help="The layer that counts, from 0, or from the end as -1, -2, …")
    ] = None,
    norm: Annotated[str | None, Option(metavar="l1|l2", help="How large a head's gradient is.")] = None,
    layers: Annotated[int | None, Option(metavar="N", help="How many of the last layers count; 0 for all.")] = None,
    steps: Annotated[int | None, Option(metavar="N", help="Points on the way from the baseline.")] = None,
    baseline: Annotated[str | None, Option(metavar="black|mean", help="Where that way begins.")] = None,
    samples: Annotated[int | None, Option(metavar="N", help="How many noisy copies of the picture.")] = None,
    noise: Annotated[float | None, Option(metavar="R", help="Noise, as a share of the picture's range.")] = None,
    masks: Annotated[int | None, Option(metavar="N", help="How many random masks.")] = None,
    cells: Annotated[int | None, Option(metavar="N", help="Rows and columns of a mask's grid.")] = None,
    probability: Annotated[float | None, Option(metavar="P", help="How likely a cell shows the picture.")] = None,
    seed: Annotated[int | None, Option(metavar="N", help="Of the random numbers.")] = None,
    all_methods: Annotated[
        bool, Option("--all-methods", help="One sheet for each picture, with a heatmap of every method.")
    ] = False,
    output: Annotated[
        Path, Option(metavar="FOLDER", help="Where to write.", show_default="the current folder")
    ] = Path(),
    device: Annotated[str, Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto",
    cache: Annotated[
        bool, Option("--cache", help="Keep what lets the artifact open sooner the next time, in ARTIFACT.cache.")
    ] = False,
    trust: Trust = False,
    max_pixels: Annotated[
        int | None, Option(metavar="N", min=1, help="Pictures of more are refused.", show_default="67108864")
    ] = None,
) -> None:
    """Show what a model sees in pictures, and where: the top classes, and heatmaps over the pictures.

    Every heatmap is a new file, <picture>.<method>.<class>.png, or with --all-methods every picture's sheet is,
    <picture>.all-methods.png; no file is replaced.
    """
    from onnxplain.runtime import CacheWarning, Explainer
    from onnxplain.runtime.loading import MAX_PIXELS

    options = {
        "head_fusion": head_fusion,
        "discard_ratio": discard_ratio,
        "start_layer": start_layer,
        "layer": layer,
        "norm": norm,
        "layers": layers,
        "steps": steps,
        "baseline": baseline,
        "samples": samples,
        "noise": noise,
        "masks": masks,
        "cells": cells,
        "probability": probability,
        "seed": seed,
    }
    parameters = {name: value for name, value in options.items() if value is not None}
    if all_methods:
        cli_input.check_all_methods(method, parameters)
    targets = target or ["-1"]
    pictures, errors = cli_input.find_pictures(images)
    cli_input.check_writable(output)
    limit = max_pixels or MAX_PIXELS
    cli_input.allow_pixels(limit)
    sources: list[Path | bytes] = [*pictures]
    if cli_input.STDIN in pictures:
        place = pictures.index(cli_input.STDIN)
        sources[place], pictures[place] = cli_input.read_stdin(limit), Path("stdin")
    console = cli_output.make_console()
    started = time.monotonic()
    with console.status(f"loading {artifact}"), cli_errors.warnings_shown(CacheWarning):
        explainer = Explainer(artifact, device, cache=cache, trust=trust, max_pixels=limit)
    failed = 0
    with cli_output.ExplainingProgress(console, len(pictures)) as progress:
        if all_methods:
            results: Iterator[Any] = explainer.explain_all(sources, targets, progress=progress.runs)
        else:
            results = explainer.explain(sources, targets, method, progress=progress.runs, **parameters)
        for picture, answer, files in cli_batches.drawn(
            partial(cli_output.draw, output), cli_batches.answers(results, pictures)
        ):
            if isinstance(answer, list):
                cli_output.show(console, picture, answer, files)
            elif isinstance(answer, dict):
                cli_output.show_all(console, picture, answer, files)
            else:
                failed += 1
                errors.append(str(answer) if str(picture) in str(answer) else f"{picture}: {answer}")
            progress.next_picture()
    if all_methods:
        cli_output.show_left_out(console, explainer.metadata)
    if len(pictures) > 1:
        seconds, done = time.monotonic() - started, len(pictures) - failed
        console.print(f"explained {done} of {len(pictures)} pictures in {seconds:.1f} s on {explainer.device}")
    for message in errors:
        cli_errors.print_error(message)
    if errors:
        raise typer.Exit(2)


@app.command()
def models() -> None:
    """List the models that export knows."""
    package = cli_input.export_package()
    cli_output.make_console().print(cli_output.models_table(package.MODELS.values(), package.SOURCES))


@app.command()
def methods(
    artifact: Annotated[
        Path | None, Argument(metavar="[ARTIFACT]", help="A file that export wrote: the methods that it allows.")
    ] = None,
    trust: Trust = False,
) -> None:
    """List the explanation methods, with the passes each needs, its parameters and their defaults.

    Of an artifact, those that it has the passes for, and how far float32 is off in their maps.
    """
    from onnxplain.runtime import METHODS, Explainer, available_methods

    if artifact is None:
        shown = cli_output.methods_table(METHODS.values())
    else:
        metadata = Explainer(artifact, "cpu", trust=trust).metadata
        shown = cli_output.methods_table(available_methods(metadata.passes), metadata.resolution)
    cli_output.make_console().print(shown)


@app.command()
def info(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")], trust: Trust = False
) -> None:
    """Show what an artifact says about itself: model, classes, preprocessing, passes, and how it was checked."""
    from onnxplain.runtime import Explainer, available_methods

    console = cli_output.make_console()
    with console.status(f"loading {artifact}"):
        metadata = Explainer(artifact, "cpu", trust=trust).metadata
    console.print(f"{artifact}, {cli_output.file_size(artifact)}", style="bold", soft_wrap=True)
    console.print(cli_output.metadata_table(metadata))
    names = ", ".join(method.name for method in available_methods(metadata.passes))
    console.print(f"It can be explained with: {names}", end="\n\n")
    if metadata.parity:
        console.print(cli_output.parity_table(metadata.parity))
    else:
        console.print("It holds no report of a comparison with PyTorch.")


if __name__ == "__main__":
    app(prog_name=PROGRAM)
