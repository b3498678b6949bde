"""The command sanity: whose maps depend on what the model has learnt."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Exit, Option

from onnxplain.catalog import find_row
from onnxplain.commands import arguments, display, reporting
from onnxplain.commands.find_images import counted
from onnxplain.commands.model_options import ModelOptions
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import Data, Model, Quiet

if TYPE_CHECKING:
    from onnxplain.export import SanityResult

STYLES = {"yes": "green", "no": "bold red", "cannot be told": "yellow"}
NOTE = (
    "Similarity of the map with all weights random to the trained model's map of the same image and class, with 95 % "
    "intervals by bootstrap over draws and images: rank correlation of the values and of the absolute values, and SSIM "
    "of the absolute values; shifted: the SSIM of the same map moved to another place. eMPRT: how much more entropy "
    "the map has then, in parts of the trained one's. A map depends on what was learnt if its absolute values are less "
    "than {limit:g} more alike than those of the shifted map, by rank correlation and by SSIM."
)


@with_groups
def sanity(
    model: Model,
    data: Data,
    methods: Annotated[
        str | None,
        Option(metavar="M,…|all", help="See the command methods.", show_default="those that run the graph once"),
    ] = None,
    limit: Annotated[int, Option(metavar="N", min=1, help="The most images.")] = 20,
    draws: Annotated[int, Option(metavar="N", min=1, help="How often random weights are drawn.")] = 10,
    seed: Annotated[int, Option(metavar="N", min=0, help="Of the random weights.")] = 0,
    *,
    options: ModelOptions,
    head: Annotated[Path | None, Option(metavar="FILE", help="A classifier for the model, as export takes it.")] = None,
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write.")] = Path("sanity"),
    device: Annotated[str, Option(metavar="cpu|cuda", help="Where to run.")] = "cpu",
    quiet: Quiet = False,
) -> None:
    """Test which methods' maps depend on what a model has learnt.

    The model's weights become random, from the head down and block by
    block, until all are: a map that looks the same then tells nothing
    of what was learnt. Without an artifact: it needs PyTorch.
    """
    from onnxplain.evaluation import open_data
    from onnxplain.runtime import available_methods

    find_row(model)
    size, preprocessing = options.size, options.preprocessing
    names = None if methods is None else arguments.listed(methods)
    arguments.check_writable(output)
    console = display.make_console(quiet)
    with display.stages(console, "importing PyTorch") as tell:
        package = arguments.export_package()
        tell(f"loading {model}")
        with reporting.warnings_shown():
            backbone = package.load_backbone(
                model, options.checkpoint, options.random_init, image_size=size, head=head,
                head_pooling=options.head_pooling, progress=tell, preprocessing=preprocessing,
            )  # fmt: skip
    samples = open_data(data, backbone.labels, limit)
    if names == ["all"]:
        names = [method.name for method in available_methods(package.explainer_of(backbone).metadata)]
    for line in samples.warnings:
        reporting.print_warning(line)
    with _progress(console) as progress:
        result = package.randomisation_test(
            backbone, samples, names, draws, seed, device, samples.description, progress
        )
    console.print(sanity_table(result))
    for method, count in result.missing.items():
        reporting.print_warning(f"{method}: {count} maps of models with random weights were not finite, and left out")
    written = package.write_sanity(result, output)
    console.print(f"wrote {', '.join(path.name for path in written)} into {output}", soft_wrap=True)
    for name, error in result.errors.items():
        reporting.print_error(f"{name}: {error}")
    if result.errors:
        raise Exit(2)


def sanity_table(result: "SanityResult") -> Table:
    """One row for each method, all weights random."""
    from onnxplain.export.sanity.result import LIMIT, SHIFTED

    columns = ("spearman", "|spearman|", "SSIM", "shifted", "eMPRT")
    table = display.table("method", *columns, "depends on what was learnt", right=columns, whole=("method", *columns))
    for method in result.methods:
        found = (result.summary(method, metric) for metric in ("spearman", "spearman_absolute", "ssim"))
        shifted, emprt = result.summary(SHIFTED + method, "ssim"), result.summary(method, "emprt")
        verdict = result.verdict(method)
        cells = (*map(_with_interval, found), f"{shifted.mean:.2f}", _with_interval(emprt))
        table.add_row(method, *cells, Text(verdict, STYLES[verdict]))
    table.title = Text(
        f"{result.run['model']}, {counted(len(result.images), 'image')}, "
        f"{counted(result.run['draws'], 'draw')} of all weights",
        "bold",
        justify="left",
    )
    table.caption = Text(NOTE.format(limit=LIMIT), justify="left")
    return table


def _with_interval(found: Any) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """What is to be called with what is done, how much of it, and of how much."""
    with display.Bars(console) as bars:
        bar = bars.add_task("", total=None)
        yield lambda stage, done, total: bars.update(bar, description=stage, completed=done, total=total)
