"""The command demo: the model and the images that come with the package, explained."""

from pathlib import Path
from typing import Annotated

from typer import Option

from onnxplain.commands import arguments, display
from onnxplain.commands.destination import Destination
from onnxplain.commands.drawing import not_written
from onnxplain.commands.options import Quiet
from onnxplain.commands.products import Figures
from onnxplain.contract.errors import OnnxplainError
from onnxplain.demo import ARTIFACT


def demo(
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write.")] = Path("explanations"),
    quiet: Quiet = False,
) -> None:
    """Explain an image with the small model that comes with the package: where are the digits in it?

    Needs neither PyTorch nor a network.
    """
    from onnxplain.demo.samples import samples
    from onnxplain.runtime import Explainer, Style
    from onnxplain.runtime.methods.choice import find_method

    arguments.check_writable(output)
    console = display.make_console(quiet)
    sample = samples()[0]
    explainer = Explainer(ARTIFACT, "cpu")
    best = find_method(None, explainer.metadata).name
    results = explainer.explain_all(sample.path, list(sample.labels), methods=[best])
    try:
        files = Figures(Destination(output, {}, ARTIFACT), Style(), "png").write(sample.path, results)
    except OSError as error:
        raise OnnxplainError(not_written(error)) from None
    display.show(console, sample.path, results, files)
    console.print(f"your own images: onnxplain explain {ARTIFACT} IMAGE…", soft_wrap=True)
    console.print("your own model:  pip install 'onnxplain[cpu,export]', then onnxplain export --help", soft_wrap=True)
