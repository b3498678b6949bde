"""The command that writes a model repository for Triton."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from onnxplain.commands import arguments, display
from onnxplain.commands.options import Force, Quiet
from onnxplain.contract.errors import OnnxplainError


def triton(
    artifact: Annotated[
        Path, Argument(metavar="ARTIFACT", help="A file that export wrote with --heatmaps, without optional flags.")
    ],
    output: Annotated[
        Path, Option(metavar="FOLDER", help="The model repository; the model gets a folder in it.")
    ] = Path("models"),
    name: Annotated[
        str | None,
        Option(metavar="NAME", help="The model's in the server.", show_default="that of the file, without suffix"),
    ] = None,
    max_batch_size: Annotated[
        int, Option(metavar="N", min=1, max=10_000, help="How many images a run takes at most.")
    ] = 8,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a model repository for NVIDIA's Triton Inference Server: the model, its configuration, how to ask it."""
    from onnxplain.runtime import Explainer
    from onnxplain.serving.triton.model_repository import model_folder, write_model

    folder = model_folder(output, artifact, name)
    if folder.exists() and not force:
        raise OnnxplainError(f"{folder} exists; give --force to replace the files in it, or another --name")
    arguments.check_writable(folder)
    console = display.make_console(quiet)
    with console.status(f"loading {artifact}"):
        metadata = Explainer(artifact, "cpu").metadata
    written = write_model(artifact, metadata, folder, max_batch_size)
    for path in written:
        console.print(f"wrote {path}: {display.file_size(path)}", soft_wrap=True)
    console.print(f"how to serve and ask it: {folder / 'README.md'}", soft_wrap=True)
