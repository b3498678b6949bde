"""The command explain: what a model sees in pictures, and where."""

import time
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from onnxplain.commands import arguments, display, reporting
from onnxplain.commands.destination import Destination
from onnxplain.commands.drawing import draw_ahead
from onnxplain.commands.find_pictures import counted, find_pictures
from onnxplain.commands.options import Quiet, Trust


def explain(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    images: Annotated[
        list[Path], Argument(metavar="IMAGE", help="Pictures, and folders of pictures; - is one on standard input.")
    ],
    method: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="See the command methods. Can be repeated.", show_default="the file's best"),
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
    sheet: Annotated[
        bool, Option("--sheet", help="One sheet for each picture, with the heatmaps of the methods given.")
    ] = False,
    all_methods: Annotated[
        bool, Option("--all-methods", help="One sheet for each picture, with a heatmap of every method.")
    ] = False,
    recursive: Annotated[
        bool, Option("--recursive", help="Explain the pictures in sub-folders too, into sub-folders of the same names.")
    ] = False,
    top_k: Annotated[int, Option(metavar="N", min=1, help="How many predictions to list.")] = 5,
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write.")] = Path("explanations"),
    device: Annotated[str, Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto",
    cache: Annotated[
        bool, Option("--cache", help="Keep what lets the artifact open sooner the next time, in ARTIFACT.cache.")
    ] = False,
    trust: Trust = False,
    max_pixels: Annotated[
        int | None, Option(metavar="N", min=1, help="Pictures of more are refused.", show_default="67108864")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show what a model sees in pictures, and where: the top classes, and heatmaps over the pictures.

    Every heatmap is a new file, <picture>.<artifact>.<method>.<class>.png,
    or with --sheet or --all-methods every picture's sheet is,
    <picture>.<artifact>.sheet.png. No file is replaced.
    In folders such files are skipped.
    """
    from onnxplain.contract.errors import naming
    from onnxplain.runtime import Explainer
    from onnxplain.runtime.images.loading import MAX_PIXELS

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
        arguments.check_all_methods(method, parameters)
    found = find_pictures(images, recursive)
    arguments.check_writable(output)
    limit = max_pixels or MAX_PIXELS
    arguments.allow_pixels(limit)
    pictures = [*found.pictures]
    sources: list[Path | bytes] = [*pictures]
    if arguments.STDIN in pictures:
        place = pictures.index(arguments.STDIN)
        sources[place], pictures[place] = arguments.read_stdin(limit), Path("stdin")
    console = display.make_console(quiet)
    started = time.monotonic()
    with console.status(f"loading {artifact}"), reporting.warnings_shown():
        explainer = Explainer(artifact, device, cache=cache, trust=trust, max_pixels=limit, top_k=top_k)
    metadata = explainer.metadata
    methods = None if all_methods else arguments.shared_out(method, parameters, metadata.passes)
    to = Destination(output, found.pictures, artifact, metadata.model, sheet or all_methods)
    targets: list[str | int] = [*target] if target else [-1]  # a number, as "-1" could be a label
    errors, warnings, written = [*found.errors], dict[str, str](), 0
    with display.ExplainingProgress(console, len(pictures)) as progress:
        results = explainer.explain_all_many(sources, targets, progress=progress.runs, methods=methods)
        for picture, outcome in draw_ahead(to.draw, zip(pictures, results.outcomes(), strict=False)):
            if outcome.error is not None:
                errors.append(naming(picture, outcome.error))
            else:
                answer, files = outcome.value
                display.show(console, picture, answer, files, to.sheet)
                warnings |= {name: why for name, (item, *_) in answer.items() if (why := display.inexact(item))}
                written += len(files)
            progress.next_picture()
    if all_methods:
        display.show_left_out(console, metadata)
    for line in found.skipped():
        console.print(line, soft_wrap=True)
    if len(pictures) > 1:
        seconds, done = time.monotonic() - started, len(pictures) - len(errors) + len(found.errors)
        console.print(f"explained {done} of {len(pictures)} pictures in {seconds:.1f} s on {explainer.device}")
    if written:
        console.print(f"wrote {counted(written, 'file')} into {output}", soft_wrap=True)
    if quiet:
        for name, why in warnings.items():
            reporting.print_warning(f"{name} is inexact: {why}")
    for message in errors:
        reporting.print_error(message)
    if errors:
        raise typer.Exit(2)
