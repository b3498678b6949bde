"""The command explain: what a model sees in images, and where."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from onnxplain.commands import arguments, display, figure_options, reporting
from onnxplain.commands.destination import Destination
from onnxplain.commands.drawing import draw_ahead
from onnxplain.commands.find_images import counted, find_images
from onnxplain.commands.method_options import given_parameters
from onnxplain.commands.options import Quiet, Trust
from onnxplain.contract.errors import naming
from onnxplain.contract.formats import FORMATS, format_of

if TYPE_CHECKING:
    from onnxplain.runtime import Explanation

MANY = 10
"""Images for which it pays to pack the weights."""


def explain(
    context: typer.Context,
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    images: Annotated[
        list[Path], Argument(metavar="IMAGE", help="Images, and folders of images; - is one on standard input.")
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
    sheet: Annotated[
        bool, Option("--sheet", help="One sheet for each image, with the heatmaps of the methods given.")
    ] = False,
    all_methods: Annotated[
        bool, Option("--all-methods", help="One sheet for each image, with a heatmap of every method.")
    ] = False,
    recursive: Annotated[
        bool, Option("--recursive", help="Explain the images in sub-folders too, into sub-folders of the same names.")
    ] = False,
    top_k: Annotated[int, Option(metavar="N", min=1, help="How many predictions to list.")] = 5,
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write.")] = Path("explanations"),
    layout: figure_options.Layout = None,
    colormap: figure_options.ColormapName = None,
    opacity: figure_options.Opacity = None,
    contour: figure_options.Contour = None,
    scale: figure_options.ScaleName = None,
    max_size: figure_options.MaxSize = None,
    format: figure_options.Format = "png",
    device: Annotated[str, Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto",
    provider: Annotated[
        list[str] | None,
        Option(
            metavar="NAME[=JSON]",
            help="Where to run, as onnxruntime calls it: an execution provider, and its options as a JSON object. "
            "Can be repeated, first choice first.",
            show_default="those of the device",
        ),
    ] = None,
    cache: Annotated[
        bool, Option("--cache", help="Keep what lets the artifact open sooner the next time, in ARTIFACT.cache.")
    ] = False,
    trust: Trust = False,
    max_pixels: Annotated[
        int | None, Option(metavar="N", min=1, help="Larger images are refused.", show_default="67108864")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show what a model sees in images, and where: the top classes, and heatmaps over the images.

    Every heatmap is a new file, <image>.<artifact>.<method>.<class>.png,
    or with --sheet or --all-methods every image's sheet is,
    <image>.<artifact>.sheet.png, or ends as --format says.
    No file is replaced.
    In folders such files are skipped.
    """
    from onnxplain.runtime import METHODS, Explainer
    from onnxplain.runtime.figures.formats import check_format
    from onnxplain.runtime.images.loading import MAX_PIXELS, UNNAMED
    from onnxplain.runtime.methods.choice import find_method

    style = figure_options.style_of(
        layout=layout, colormap=colormap, opacity=opacity, contour=contour, scale=scale, max_size=max_size
    )
    check_format(format)
    parameters = given_parameters(context)
    if all_methods:
        arguments.check_all_methods(method, parameters)
    providers = arguments.parse_providers(provider)
    found = find_images(images, recursive)
    arguments.check_writable(output)
    limit = max_pixels or MAX_PIXELS
    arguments.allow_pixels(limit)
    names = [*found.images]
    sources: list[Path | bytes] = [*names]
    if arguments.STDIN in names:
        place = names.index(arguments.STDIN)
        sources[place], names[place] = arguments.read_stdin(limit), Path("stdin")
    console = display.make_console(quiet)
    started = time.monotonic()
    with console.status(f"loading {artifact}"), reporting.warnings_shown():
        explainer = Explainer(
            artifact, device, cache=cache, trust=trust, max_pixels=limit, top_k=top_k, providers=providers,
            packed=len(names) >= MANY and FORMATS[format_of(artifact)].has_packed,
        )  # fmt: skip
    metadata = explainer.metadata
    methods = None
    if not all_methods:
        chosen = [(name, find_method(name, metadata)) for name in method or (None,)]
        rows = {name or found.name: METHODS[found.name] for name, found in chosen}
        methods = arguments.parameters_by_method(rows, parameters)
    destination = Destination(output, found.images, artifact, metadata.model, sheet or all_methods, style, format)
    targets: list[str | int] = [*target] if target else [-1]  # a number, as "-1" could be a label
    errors, warnings, written = [*found.errors], dict[str, str](), 0
    with display.ExplainingProgress(console, len(names)) as progress:
        many = explainer.explain_all_many(sources, targets, progress=progress.runs, methods=methods)
        outcomes = (outcome.then(_each_class_once) for outcome in many.outcomes())
        for name, outcome in draw_ahead(destination.draw, zip(names, outcomes, strict=False)):
            if outcome.error is not None:
                errors.append(naming(name, str(outcome.error).replace(UNNAMED, str(name), 1)))  # of standard input
            else:
                results, files = outcome.value
                display.show(console, name, results, files, destination.sheet)
                warnings |= {method: why for method, (item, *_) in results.items() if (why := display.inexact(item))}
                written += len(files)
            progress.next_image()
    if all_methods:
        display.show_left_out(console, metadata)
    for line in found.skipped():
        console.print(line, soft_wrap=True)
    if len(names) > 1:
        seconds, done = time.monotonic() - started, len(names) - len(errors) + len(found.errors)
        console.print(f"explained {done} of {len(names)} images in {seconds:.1f} s on {explainer.device}")
    if written:
        console.print(f"wrote {counted(written, 'file')} into {output}", soft_wrap=True)
    if quiet:
        for inexact, why in warnings.items():
            reporting.print_warning(f"{inexact} is inexact: {why}")
    for message in errors:
        reporting.print_error(message)
    if errors:
        raise typer.Exit(2)


def _each_class_once(results: dict[str, list["Explanation"]]) -> dict[str, list["Explanation"]]:
    """Without the second explanation of a class that two targets stand for, such as its label and its rank."""
    once: dict[str, list[Explanation]] = {}
    for method, items in results.items():
        first = {item.target: item for item in reversed(items)}  # of several, the first stays
        once[method] = [item for item in items if item is first[item.target]]
    return once
