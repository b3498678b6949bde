"""The command export: from a model to a file that was compared with it."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from onnxplain.catalog import find_row
from onnxplain.commands import arguments, display, method_arguments, reporting
from onnxplain.commands.method_options import given_parameters
from onnxplain.commands.model_options import ModelOptions
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import Force, Model, Quiet, as_options
from onnxplain.commands.tables import show_parity
from onnxplain.commands.text_files import read_labels, read_values
from onnxplain.contract.formats import DEFAULT, FORMATS
from onnxplain.contract.lrp_rules import checked_rules
from onnxplain.contract.outputs import FLAGS
from onnxplain.contract.precisions import FLOAT32, PRECISIONS, check_precision


def kinds_of_files() -> str:
    """The file formats, in a few words each."""
    return "; or ".join(", ".join(filter(None, (name, item.about))) for name, item in FORMATS.items())


@with_groups
def export(
    context: typer.Context,
    model: Model,
    *,
    options: ModelOptions,
    head: Annotated[
        Path | None, Option(metavar="FILE", help="A classification head to put on the model: .safetensors or .pth.")
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
        Path | None,
        Option(metavar="FILE", help="Names of the classes: lines, or JSON: a list, id2label or label2id."),
    ] = None,
    output: Annotated[
        str | None,
        Option(
            metavar="FILE",
            help="The file to write.",
            show_default="artifacts/<name>" + ", or ".join(item.suffix for item in FORMATS.values()),
        ),
    ] = None,
    format: Annotated[str, Option(metavar="NAME", help=f"{kinds_of_files()}.")] = DEFAULT,
    passes: Annotated[
        list[str] | None,
        Option(
            metavar="PASS,…",
            help="What the file can compute beside attention; the methods need them as the command methods lists.",
            show_default="all that fit in memory",
        ),
    ] = None,
    heatmaps: Annotated[
        list[str] | None,
        Option(
            metavar="METHOD,…",
            help="Write a plain artifact, whose outputs are the heatmaps of these methods, for any runtime of ONNX.",
        ),
    ] = None,
    flags: Annotated[
        str | None,
        Option(
            metavar="KIND",
            help=f"Inputs that say which of several heatmaps are computed: {', '.join(FLAGS)}.",
            show_default="required where there are several",
        ),
    ] = None,
    input: Annotated[
        str,
        Option(
            metavar="KIND",
            help="What a file with --heatmaps takes: pixels, preprocessed; or image, uint8 and of any size, which the "
            "graph prepares, and the heatmaps come back in the size of the image.",
        ),
    ] = "pixels",
    precision: Annotated[
        str,
        Option(metavar="NAME", help="; ".join(f"{name}: {about}" for name, about in PRECISIONS.items()) + "."),
    ] = FLOAT32,
    alpha: Annotated[float, Option(metavar="A", min=1, help="LRP of attention and of full: alpha of its rule.")] = 1.0,
    beta: Annotated[float | None, Option(metavar="B", help="And beta.", show_default="alpha - 1")] = None,
    gamma: Annotated[
        float | None,
        Option(
            metavar="G", min=0, help="attnlrp and cp_lrp: gamma of their rule, for all layers.", show_default="0, none"
        ),
    ] = None,
    gamma_conv: Annotated[
        float | None, Option(metavar="G", min=0, help="Or that of convolutions; published for ViTs: 0.25.")
    ] = None,
    gamma_linear: Annotated[
        float | None,
        Option(metavar="G", min=0, help="And of linear layers, but those of attention; published for ViTs: 0.05."),
    ] = None,
    gamma_attention: Annotated[
        float | None,
        Option(
            metavar="G",
            min=0,
            help="And of attention's linear layers: queries, keys, values, output.",
            show_default="0, as published",
        ),
    ] = None,
    opset: Annotated[int, Option(metavar="N", min=18, max=23, help="ONNX opset version, 18 to 23.")] = 20,
    force: Force = False,
    verbose: Annotated[bool, Option("--verbose", help="Show every line of the comparison with PyTorch.")] = False,
    quiet: Quiet = False,
) -> None:
    """Turn a Vision Transformer into one file that explains itself, and compare it with PyTorch.

    If the file does not compute what the model computes, it is not written.
    """
    from onnxplain.runtime.methods.heatmaps import checked_heatmaps

    find_row(model)
    path = arguments.artifact_path(output, model, format)
    size, preprocessing = options.size, options.preprocessing
    wanted = None if passes is None else arguments.parse_passes(passes)
    maps = method_arguments.parse_heatmaps(heatmaps, given_parameters(context))
    checked_heatmaps(maps, format, wanted, flags, input)
    check_precision(precision, format)
    checked_rules(alpha, beta, gamma, gamma_conv, gamma_linear, gamma_attention)
    names = None if labels is None else read_labels(labels)
    words = None if prompts is None else read_values("prompts", prompts)
    sentences = () if template is None else read_values("templates", template)
    arguments.check_new_file(path, force)
    console = display.make_console(quiet)
    started = time.monotonic()
    with display.stages(console, "importing PyTorch") as tell:
        package = arguments.export_package()
        tell(f"loading {model}")
        with reporting.warnings_shown():
            backbone = package.load_backbone(
                model,
                options.checkpoint,
                options.random_init,
                num_classes,
                size,
                names,
                head,
                options.head_pooling,
                prompts=words,
                templates=sentences,
                progress=tell,
                preprocessing=preprocessing,
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
                gamma_conv=gamma_conv,
                gamma_linear=gamma_linear,
                gamma_attention=gamma_attention,
                heatmaps=maps,
                flags=flags,
                input=input,
                precision=precision,
                progress=tell,
            )
        except package.GateError as error:
            show_parity(console, error.report.to_dict(), verbose)
            raise
    show_parity(console, report.to_dict(), verbose)
    console.print(f"wrote {path}: {display.file_size(path)} in {time.monotonic() - started:.0f} s", soft_wrap=True)
    if not backbone.has_classes:
        needed = f"{backbone.name} has no classes, so the file shows attention and features only; maps of classes need"
        console.print(f"{needed} {as_options(package.HOW_TO_GET_CLASSES)}", soft_wrap=True)
    trusted = " --trust" if FORMATS[format].is_program else ""
    console.print(
        f"try: {context.find_root().info_name} explain {shlex.quote(str(path))} IMAGE{trusted}", soft_wrap=True
    )
