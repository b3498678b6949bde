"""The command line: typer commands over onnxplain.export and onnxplain.runtime, which are imported when needed."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

import onnxplain
from onnxplain.catalog import LIBRARIES, MODELS
from onnxplain.commands import arguments, display, listings, reporting, tables
from onnxplain.commands.batch import OptionalAddress, batch
from onnxplain.commands.demo import demo
from onnxplain.commands.evaluate import evaluate, metrics
from onnxplain.commands.explain import explain
from onnxplain.commands.export import export
from onnxplain.commands.listings import AsJson
from onnxplain.commands.method_options import HeatmapOptions, MethodOptions
from onnxplain.commands.options import Trust
from onnxplain.commands.page import page
from onnxplain.commands.probe import probe
from onnxplain.commands.sanity import sanity
from onnxplain.commands.serve import serve
from onnxplain.commands.triton import triton
from onnxplain.commands.views import features, heads

PROGRAM = f"python {sys.argv[0]}" if __name__ == "__main__" else reporting.PROGRAM

app = typer.Typer(
    cls=reporting.OneLineErrors,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"{reporting.PROGRAM} {onnxplain.__version__}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Explain Vision Transformers: export one as an ONNX file, then see where it looks, without PyTorch."""


app.command()(demo)
app.command(cls=HeatmapOptions)(export)
app.command()(probe)
app.command(cls=MethodOptions)(explain)
app.command(cls=OptionalAddress)(batch)
app.command()(heads)
app.command()(features)
app.command()(evaluate)
app.command()(metrics)
app.command()(sanity)
app.command()(page)
app.command()(triton)
app.command()(serve)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that export knows."""
    if as_json:
        listings.print_json(listings.models_document(MODELS.values(), LIBRARIES))
        return
    display.make_console().print(tables.models_table(MODELS.values(), LIBRARIES))


@app.command()
def methods(
    artifact: Annotated[
        Path | None, Argument(metavar="[ARTIFACT]", help="A file that export wrote: the methods that it allows.")
    ] = None,
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """List the explanation methods, with the passes each needs, its parameters and their defaults.

    Of an artifact, those that it has the passes for, and how far float32 is off in their maps.
    """
    from onnxplain.runtime import METHODS, Explainer, available_methods

    if artifact is not None:
        arguments.check_not_a_method(artifact)
    metadata = None if artifact is None else Explainer(artifact, "cpu", trust=trust).metadata
    rows = METHODS.values() if metadata is None else [METHODS[each.name] for each in available_methods(metadata)]
    if as_json:
        listings.print_json(listings.methods_document(rows, metadata))
        return
    display.make_console().print(tables.methods_table(rows, metadata))


@app.command()
def info(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    as_json: AsJson = False,
    trust: Trust = False,
) -> None:
    """Show what an artifact says about itself: model, classes, preprocessing, passes, and how it was checked."""
    from onnxplain.runtime import Explainer, available_methods

    console = display.make_console()
    with console.status(f"loading {artifact}"):
        metadata = Explainer(artifact, "cpu", trust=trust).metadata
    if as_json:
        listings.print_json(listings.artifact_document(artifact, metadata))
        return
    console.print(f"{artifact}, {display.file_size(artifact)}", style="bold", soft_wrap=True)
    console.print(tables.metadata_table(metadata))
    names = ", ".join(method.name for method in available_methods(metadata))
    console.print(f"It can be explained with: {names}", end="\n\n")
    if metadata.parity:
        console.print(tables.parity_table(metadata.parity))
    else:
        console.print("It holds no report of a comparison with PyTorch.")


if __name__ == "__main__":
    app(prog_name=PROGRAM)
