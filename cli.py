"""The command line: typer commands over onnxplain.export and onnxplain.runtime, which are imported when needed."""

import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Argument, Option
from typer.core import TyperGroup

from onnxplain import cli_batches, cli_input, cli_output

PROGRAM = f"python {sys.argv[0]}" if __name__ == "__main__" else "onnxplain"
DEBUG = "ONNXPLAIN_DEBUG"  # the environment variable that shows tracebacks and what libraries warn of


class OneLineErrors(TyperGroup):
    """The group of commands; whatever goes wrong in them ends as one line on standard error and an exit status."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Exit with 0, with 2 after a mistake of the user, 130 after Ctrl-C, 1 after an error of this program."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError):  # a file name need not be valid text, nor the terminal take every letter
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            with _quiet():
                status = super().main(args, prog_name or PROGRAM, *rest, **{**extra, "standalone_mode": False})
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
    model: Annotated[str, Option(metavar="NAME", help="vit, deit, demo or timm/<name>; see the command models.")],
    checkpoint: Annotated[
        Path | None, Option(metavar="FILE", help="Weights instead of the published ones: .safetensors or .pth.")
    ] = None,
    num_classes: Annotated[int | None, Option(metavar="N", min=1, help="Classes, if not the model's own.")] = None,
    labels: Annotated[
        Path | None, Option(metavar="FILE", help="Names of the classes: one per line, or a JSON list.")
    ] = None,
    image_size: Annotated[str | None, Option(metavar="N|HxW", help="Input size in pixels.")] = None,
    output: Annotated[
        Path | None, Option(metavar="FILE", help="The file to write.", show_default="artifacts/<name>.onnx")
    ] = None,
    passes: Annotated[
        list[str] | None,
        Option(
            metavar="PASS,…",
            help="Of gradient and relevance; attention is always in.",
            show_default="gradient,relevance",
        ),
    ] = None,
    opset: Annotated[int, Option(metavar="N", min=18, max=23, help="ONNX opset version, 18 to 23.")] = 20,
    random_init: Annotated[
        bool, Option("--random-init", help="Go without trained weights, to try things out.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Replace the output if it exists.")] = False,
) -> None:
    """Turn a Vision Transformer into one ONNX file that explains itself, and compare it with PyTorch.

    If the file does not compute what the model computes, it is not written.
    """
    path = output or Path("artifacts") / f"{model.rpartition('/')[2]}.onnx"
    size = None if image_size is None else cli_input.parse_size(image_size)
    wanted = cli_input.parse_passes(passes)
    names = None if labels is None else cli_input.read_labels(labels)
    cli_input.check_new_file(path, force)
    console = cli_output.make_console()
    started = time.monotonic()
    with console.status("importing PyTorch") as status:
        package = _export_package()
        status.update(f"loading {model}")
        backbone = package.load_backbone(model, checkpoint, random_init, num_classes, size, names)
        try:
            report = package.export_model(backbone, path, passes=wanted, opset=opset, progress=status.update)
        except package.GateError as error:
            console.print(cli_output.parity_table(error.report.to_dict()))
            raise
    console.print(cli_output.parity_table(report.to_dict()))
    console.print(f"wrote {path}: {cli_output.file_size(path)} in {time.monotonic() - started:.0f} s", soft_wrap=True)
    console.print(f"try: {PROGRAM} explain {shlex.quote(str(path))} IMAGE", soft_wrap=True)


@app.command()
def explain(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    images: Annotated[list[Path], Argument(metavar="IMAGE", help="Pictures, and folders of pictures.")],
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
    all_methods: Annotated[
        bool, Option("--all-methods", help="One sheet for each picture, with a heatmap of every method.")
    ] = False,
    output: Annotated[
        Path, Option(metavar="FOLDER", help="Where to write.", show_default="the current folder")
    ] = Path(),
    device: Annotated[str, Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto",
) -> None:
    """Show what a model sees in pictures, and where: the top classes, and heatmaps over the pictures.

    Every heatmap is a new file, <picture>.<method>.<class>.png, or with --all-methods every picture's sheet is,
    <picture>.all-methods.png; no file is replaced.
    """
    from onnxplain.runtime import Explainer

    options = {
        "head_fusion": head_fusion,
        "discard_ratio": discard_ratio,
        "start_layer": start_layer,
        "layer": layer,
        "norm": norm,
    }
    parameters = {name: value for name, value in options.items() if value is not None}
    if all_methods:
        cli_input.check_all_methods(method, parameters)
    targets = target or ["-1"]
    pictures = cli_input.find_pictures(images)
    cli_input.check_writable(output)
    console = cli_output.make_console()
    started = time.monotonic()
    with console.status(f"loading {artifact}"):
        explainer = Explainer(artifact, device)
    batch_size = cli_batches.batch_size(explainer.metadata, len(targets))

    def explained(paths: Iterator[Path]) -> Iterator[Any]:
        if all_methods:
            return explainer.explain_all(paths, targets, batch_size)
        return explainer.explain(paths, targets, method, batch_size, **parameters)

    errors = []
    columns = (TextColumn("explaining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(pictures))
        for picture, answer in cli_batches.answers(explained, pictures):
            if isinstance(answer, list):
                cli_output.show(console, picture, answer, output)
            elif isinstance(answer, dict):
                cli_output.show_all(console, picture, answer, output)
            else:
                errors.append(str(answer) if str(picture) in str(answer) else f"{picture}: {answer}")
            progress.advance(task)
    if all_methods:
        cli_output.show_left_out(console, explainer.metadata)
    if len(pictures) > 1:
        seconds, done = time.monotonic() - started, len(pictures) - len(errors)
        console.print(f"explained {done} of {len(pictures)} pictures in {seconds:.1f} s on {explainer.device}")
    for message in errors:
        _print_error(message)
    if errors:
        raise typer.Exit(2)


@app.command()
def models() -> None:
    """List the models that export knows."""
    cli_output.make_console().print(cli_output.models_table(_export_package().MODELS.values()))


@app.command()
def methods() -> None:
    """List the explanation methods, with the passes each needs, its parameters and their defaults."""
    from onnxplain.runtime import METHODS

    cli_output.make_console().print(cli_output.methods_table(METHODS.values()))


@app.command()
def info(artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")]) -> None:
    """Show what an artifact says about itself: model, classes, preprocessing, passes, and how it was checked."""
    from onnxplain.runtime import Explainer, available_methods

    console = cli_output.make_console()
    with console.status(f"loading {artifact}"):
        metadata = Explainer(artifact, "cpu").metadata
    console.print(f"{artifact}, {cli_output.file_size(artifact)}", style="bold", soft_wrap=True)
    console.print(cli_output.metadata_table(metadata))
    names = ", ".join(method.name for method in available_methods(metadata.passes))
    console.print(f"It can be explained with: {names}", end="\n\n")
    if metadata.parity:
        console.print(cli_output.parity_table(metadata.parity))
    else:
        console.print("It holds no report of a comparison with PyTorch.")


def _export_package() -> Any:
    try:
        from onnxplain import export as package
    except ModuleNotFoundError as error:
        raise ImportError(f"this command needs {error.name}: pip install 'onnxplain[export]'") from error
    return package


def _report(error: Exception) -> int:
    """Say in one line what went wrong; the exit status."""
    if hasattr(error, "format_message"):  # typer's, about the arguments
        context = getattr(error, "ctx", None)
        hint = f"; see: {context.command_path} --help" if context else ""
        values: list[Any] = getattr(
            error.__cause__, "errors", list
        )()  # pydantic's; typer's own message does not repeat them
        given = "".join(f", got {value['input']!r}" for value in values)
        _print_error(error.format_message().rstrip(".") + given + hint)
        return 2
    if DEBUG in os.environ:
        raise error
    if isinstance(error, cli_input.mistakes()):
        _print_error(str(error))
        return 2
    _print_error(f"unexpected {type(error).__name__}: {error} (run with {DEBUG}=1 for the traceback)")
    return 1


def _print_error(message: str) -> None:
    print("error:", " ".join(message.split()), file=sys.stderr)


@contextmanager
def _quiet() -> Iterator[None]:
    """What libraries warn of is not the user's concern."""
    before = logging.root.manager.disable
    try:
        with warnings.catch_warnings():
            if DEBUG not in os.environ:
                logging.disable(logging.WARNING)
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    app()
