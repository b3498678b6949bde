"""The command explain: what a model sees in images, and where."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from onnxplain.commands import display, method_arguments, reporting, saved_maps
from onnxplain.commands.compare import ModelsSheet, check_options, compare, open_comparison, split_artifacts
from onnxplain.commands.destination import Destination
from onnxplain.commands.drawing import not_written
from onnxplain.commands.explainer_options import ExplainerOptions
from onnxplain.commands.figure_options import FigureOptions
from onnxplain.commands.gallery.options import ReportOptions
from onnxplain.commands.image_loop import ImageLoop
from onnxplain.commands.json_lines import JsonLines
from onnxplain.commands.method_options import given_parameters
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import Quiet, option_of
from onnxplain.commands.products import Figures, Product, Sheet, write_all
from onnxplain.commands.sweep import ANIMATIONS, Animation, Strip, Sweep, parse_sweep
from onnxplain.contract.digest import stored_digest
from onnxplain.contract.errors import OnnxplainError

if TYPE_CHECKING:
    from onnxplain.contract import Metadata


@with_groups
def explain(
    context: typer.Context,
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    images: Annotated[
        list[Path], Argument(metavar="IMAGE", help="Images, and folders of images; - is one on standard input.")
    ],
    *,
    method: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="See the command methods; with parameters as rollout:head_fusion=max. Can be repeated.",
            show_default="the file's best",
        ),
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
    no_figures: Annotated[
        bool, Option("--no-figures", help="Write no heatmaps over images, and with --all-methods no sheet.")
    ] = False,
    save: Annotated[
        str | None,
        Option(
            metavar="|".join(saved_maps.FORMATS),
            help="Write the maps themselves as well: one archive for each image, an array for each heatmap, or a grey "
            "PNG of 16 bits for each.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        Option("--json", help="Print one line of JSON for each image, and nothing else: see docs/explain.schema.json."),
    ] = False,
    recursive: Annotated[
        bool, Option("--recursive", help="Explain the images in sub-folders too, into sub-folders of the same names.")
    ] = False,
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write.")] = Path("explanations"),
    report: ReportOptions,
    options: ExplainerOptions,
    figures: FigureOptions,
    quiet: Quiet = False,
) -> None:
    """Show what a model sees in images, and where: the top classes, and heatmaps over the images.

    Every heatmap is a new file, <image>.<artifact>.<method>.<class>.png,
    or with --sheet or --all-methods every image's sheet is,
    <image>.<artifact>.sheet.png, or ends as --format says.
    Several artifacts, named before the images, are compared on
    one sheet for each image, <image>.<artifact>+<artifact>.models.png.
    No file is replaced.
    In folders such files are skipped.
    """
    from onnxplain.runtime.methods.choice import find_method
    from onnxplain.runtime.pipeline import each_class_once

    parameters = given_parameters(context)
    if all_methods:
        method_arguments.check_all_methods(method, parameters)
    if sheet and no_figures:
        raise OnnxplainError("--sheet and --no-figures exclude each other; leave one of them out")
    saved_maps.check_format(save)
    artifacts, images = split_artifacts(artifact, images)
    if len(artifacts) > 1:
        check_options({"sweep": figures.sweep, "save": save, "report": report.report, "no_figures": no_figures})
    writes = output if save is not None or not no_figures else None
    report.check(writes)
    console = display.make_console(quiet or as_json)
    loop = ImageLoop(console, images, recursive, writes, options.pixel_limit)
    targets: list[str | int] = [*target] if target else [-1]  # a number, as "-1" could be a label
    if len(artifacts) > 1:
        comparison = open_comparison(artifacts, len(loop.names), options, method, parameters, all_methods, console)
        together = Path("+".join(path.stem for path in artifacts) + artifact.suffix)
        sheets = ModelsSheet(comparison, Destination(output, loop.found.images, together), figures)
        warnings = compare(artifacts, loop, targets, sheets, console, as_json)
        _finish(loop, comparison.explainers[0].device, [], warnings if quiet or as_json else {})
        return
    with console.status(f"loading {artifact}"), reporting.warnings_shown():
        explainer = options.open(artifact, len(loop.names))
        digest = str(stored_digest(artifact))
    swept = _sweep(figures.sweep, method, sheet or all_methods, explainer.metadata)
    if swept and swept.parameter in parameters:
        raise OnnxplainError(f"--sweep gives {swept.parameter} its values; leave {option_of(swept.parameter)} out")
    method = swept.methods if swept else method
    methods = None
    if not all_methods:
        best = find_method(None, explainer.metadata).name
        methods = method_arguments.with_parameters(method or [best], parameters)
    destination, lines = Destination(output, loop.found.images, artifact), JsonLines(artifact, digest)
    products: list[Product] = []
    if not no_figures:
        looks = (destination, figures.style, figures.format)
        if swept:
            products.append((Animation if figures.format in ANIMATIONS else Strip)(*looks, swept))
        else:
            products.append((Sheet if sheet or all_methods else Figures)(*looks))
    if save is not None:
        products.append(saved_maps.saved_maps(save, destination, lines))
    products += context.with_resource(
        report.open(loop.found.images, artifact, explainer.metadata, loop.errors, figures.style)
    )
    warnings = {}  # by method, for where they are not printed beside the maps
    with display.ExplainingProgress(console, len(loop.names)) as progress:
        many = explainer.explain_all_many(loop.sources, targets, progress=progress.runs, methods=methods)
        outcomes = (outcome.then(each_class_once) for outcome in many.outcomes())
        for name, done in loop.run(outcomes, partial(write_all, products), progress):
            if done is None:
                if as_json:
                    lines.failed(name, reporting.one_line(loop.errors[-1]))
                continue
            if as_json:
                lines.explained(name, *done)
            else:
                display.show(console, name, *done)
            warnings |= display.inexact_methods(done[0])
    files_of_all: list[Path] = []
    for product in products:
        try:
            files_of_all += product.finish()
        except OSError as error:
            loop.errors.append(not_written(error))
    if all_methods:
        display.show_left_out(console, explainer.metadata)
    _finish(loop, explainer.device, files_of_all, warnings if quiet or as_json else {})


def _finish(loop: ImageLoop, device: str, files: list[Path], warnings: dict[str, str]) -> None:
    for method, why in warnings.items():
        reporting.print_warning(f"{method} is inexact: {why}")
    loop.finish("explained", device, files)


def _sweep(text: str | None, names: list[str] | None, sheet: bool, metadata: "Metadata") -> Sweep | None:
    """The sweep of the one method named, or of the artifact's best one, if one is asked for."""
    from onnxplain.runtime.methods.calls import split_text
    from onnxplain.runtime.methods.choice import find_method

    if text is None:
        return None
    if sheet or len(names or ()) > 1:
        raise OnnxplainError("--sweep is of one method, on a sheet of its own; leave --sheet and other methods out")
    name = names[0] if names else find_method(None, metadata).name
    return parse_sweep(text, name, find_method(split_text(name)[0], metadata))
