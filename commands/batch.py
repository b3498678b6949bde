"""The command batch: many images to a folder of Parquet files."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer import Argument, Option
from typer.core import TyperCommand

from onnxplain.commands import arguments, display, reporting
from onnxplain.commands.explainer_options import ExplainerOptions
from onnxplain.commands.find_images import counted
from onnxplain.commands.listings import AsJson, print_json
from onnxplain.commands.option_groups import with_groups
from onnxplain.commands.options import Quiet
from onnxplain.contract.errors import OnnxplainError

if TYPE_CHECKING:
    from onnxplain.batch import Output, Summary

SHOWN = 10  # classes in the summary
INTERVAL = 0.5  # seconds between two looks at how far the batch is
LOCAL = "local"


class OptionalAddress(TyperCommand):
    """A command whose option --ray may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments as if local stood behind --ray where no address does."""
        every = []
        for place, argument in enumerate(args):
            every.append(argument)
            following = args[place + 1 : place + 2]
            if argument == "--ray" and not (following and is_address(following[0])):
                every.append(LOCAL)
        return super().parse_args(ctx, every)


def is_address(text: str) -> bool:
    """Whether the text is the address of a Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT."""
    return text in ("auto", LOCAL) or (text.rpartition(":")[2].isdecimal() and ":" in text)


@with_groups
def batch(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    inputs: Annotated[
        list[str],
        Argument(
            metavar="INPUT",
            help="Images: folders, files, patterns such as 'photos/*.jpg', texts with a path in each line (.txt), "
            "Parquet files with a column of bytes or paths, WebDataset shards (.tar).",
        ),
    ],
    options: ExplainerOptions,
    output: Annotated[Path, Option(metavar="FOLDER", help="Where to write. What is there is not computed again.")],
    method: Annotated[
        str | None,
        Option(metavar="NAME[:PARAMETERS]", help="See the command methods.", show_default="the artifact's best"),
    ] = None,
    target: Annotated[str, Option(metavar="CLASS", help="An index, a label, or a rank: -1 is the top class.")] = "-1",
    recursive: Annotated[bool, Option("--recursive", "-r", help="Take the images in sub-folders as well.")] = False,
    column: Annotated[
        str | None, Option(metavar="NAME", help="The column of Parquet files.", show_default="the one that can be it")
    ] = None,
    key: Annotated[
        str | None,
        Option(metavar="NAME", help="The column that rows are named by.", show_default="FILE#ROW"),
    ] = None,
    limit: Annotated[int | None, Option(metavar="N", min=1, help="Take the first N images only.")] = None,
    sample: Annotated[int | None, Option(metavar="N", min=1, help="Take N images at random, always the same.")] = None,
    maps: Annotated[bool, Option("--maps", help="Write the map over the model's input as well.")] = False,
    thumbnails: Annotated[
        int | None, Option(metavar="PIXELS", min=16, max=8192, help="Write the overlay as a JPEG of that size as well.")
    ] = None,
    jobs: Annotated[
        int | None,
        Option(metavar="N", min=1, help="How many processes, or workers on Ray.", show_default="1, on Ray all"),
    ] = None,
    threads: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Of each of them.", show_default="the cores, shared out; on Ray 1"),
    ] = None,
    ray: Annotated[
        str | None,
        Option(metavar="[ADDRESS]", help="Run on Ray: on a cluster of this machine, or on the one at that address."),
    ] = None,
    shard_size: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Images in each file that is written.", show_default="1000, fewer of few"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Explain many images, and write a row for each into Parquet files.

    When the batch is interrupted, or ends in whatever way, the same command goes on where it was. An image that
    cannot be explained has a row with its error.
    """
    with _named_extra("batch"):
        from onnxplain.batch import Opening, Output, explain_here, explain_in_processes, settings_of
    from onnxplain.commands.batch_inputs import chosen, find_items

    if ray is not None and not is_address(ray):
        raise OnnxplainError(f"`ray` must be auto, local, HOST:PORT or ray://HOST:PORT, got {ray!r}")
    console = display.make_console(quiet or as_json)
    with console.status(f"loading {artifact}"), reporting.warnings_shown():
        explainer = options.open(artifact, 1)
    settings = settings_of(
        artifact, explainer.metadata, method, target, options.top_k, options.pixel_limit, maps, thumbnails
    )
    device = explainer.device
    del explainer
    opening = Opening(
        options.device,
        threads or _threads(jobs, ray),
        options.cache,
        options.trust,
        arguments.parse_providers(options.provider),
    )
    folder = Output(output)
    with console.status("looking for images"):
        items = list(chosen(find_items(inputs, recursive, column, key), limit, sample))
    if not items:
        raise OnnxplainError(f"there are no images in {', '.join(inputs)}")
    with folder.begun(settings):
        with console.status("noting what is to be explained"):
            folder.add(items, shard_size)
        del items  # of a million images, a gigabyte
        shards, left = folder.shards(), folder.left()
        images = sum(shard.images for shard in shards)
        before = images - sum(shard.images for shard in left) + folder.images_begun()
        started = time.monotonic()
        if ray is not None:
            with _named_extra("ray"):
                from onnxplain.batch.on_ray import explain_on_ray
            done = explain_on_ray(settings, opening, folder.folder, left, jobs, ray)
        elif (jobs or 1) > 1:
            done = explain_in_processes(settings, opening, folder.folder, left, jobs or 1)
        else:
            done = explain_here(settings, opening, folder.folder, left)
        with _progress(console, folder, images, images - sum(shard.images for shard in left)) as finished:
            try:
                with closing(done):
                    for number in done if left else ():
                        finished(shards[number].images)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # no more than the end of the program is left to interrupt
                reporting.print_error("interrupted; the same command goes on where it was")
                raise typer.Exit(130) from None
        seconds = time.monotonic() - started
        summary = folder.summary()
    if as_json:
        print_json(
            {
                "output": str(output),
                "images": summary.images,
                "computed": summary.images - before,
                "seconds": seconds,
                "bytes": summary.bytes,
                "classes": dict(summary.classes.most_common()),
                "errors": dict(summary.errors.most_common()),
            }
        )
    _tell(console, summary, summary.images - before, seconds, device, output)
    if summary.errors:
        raise typer.Exit(2)


@contextmanager
def _progress(console: display.PlainConsole, folder: "Output", images: int, finished: int) -> Iterator[Any]:
    """A bar with images per second and the time left.

    Yields:
        What to call with the number of images of each shard that is finished.
    """
    columns = (
        TextColumn("explaining"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    done = [finished]
    over = threading.Event()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=images, completed=finished, rate="")

        def look() -> None:
            first: tuple[float, int] | None = None
            while not over.wait(INTERVAL):
                now, count = time.monotonic(), min(images, sum(done) + folder.images_begun())
                if first is None or count < first[1]:
                    first = now, count
                rate = (count - first[1]) / (now - first[0]) if now > first[0] else 0.0
                bar.update(task, completed=count, rate=f"{rate:.3g} a second" if rate else "")

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield done.append
        finally:
            over.set()
            thread.join()


def _tell(
    console: display.PlainConsole, summary: "Summary", computed: int, seconds: float, device: str, output: Path
) -> None:
    rate = f", {computed / seconds:.3g} a second" if computed else ""
    console.print(f"explained {counted(computed, 'image')} in {seconds:.1f} s{rate} on {device}", soft_wrap=True)
    console.print(f"{output} has {counted(summary.images, 'row')}, {summary.bytes / 2**20:.1f} MiB", soft_wrap=True)
    table = display.table("class", "images", whole=("class",))
    for label, number in summary.classes.most_common(SHOWN):
        table.add_row(label, f"{number}")
    if summary.classes:
        console.print(table)
    if (more := len(summary.classes) - SHOWN) > 0:
        console.print(f"and {counted(more, 'class')[:-1] if more == 1 else f'{more} classes'} more")
    for kind, number in summary.errors.most_common():
        reporting.print_error(f"{counted(number, 'image')}: {kind}; see the column error of the rows")


def _threads(jobs: int | None, ray: str | None) -> int | None:
    """The threads of each of several processes, which share the cores; None for all of them."""
    return None if ray is not None or (jobs or 1) == 1 else max(1, (os.cpu_count() or 1) // (jobs or 1))


@contextmanager
def _named_extra(extra: str) -> Iterator[None]:
    """Have an import that fails say what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise OnnxplainError(f"this needs {error.name}: pip install 'onnxplain[{extra}]'") from None
