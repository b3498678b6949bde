"""The command evaluate: which method's maps to believe, measured on images."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from onnxplain.commands import arguments, display, reporting
from onnxplain.commands.display import PlainConsole
from onnxplain.commands.find_images import counted
from onnxplain.commands.listings import AsJson, metrics_document, print_json
from onnxplain.commands.options import Data, Quiet, Trust
from onnxplain.contract.formats import FORMATS, format_of

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.evaluation.data.data_set import DataSet
    from onnxplain.runtime import Explainer


def evaluate(
    artifact: Annotated[Path, Argument(metavar="ARTIFACT", help="A file that export wrote.")],
    data: Data,
    methods: Annotated[
        str | None,
        Option(metavar="M,…|all", help="See the command methods.", show_default="those of explain --all-methods"),
    ] = None,
    metrics: Annotated[str, Option(metavar="X,…|default|all", help="See the command metrics.")] = "default",
    target: Annotated[
        str, Option(metavar="true|predicted", help="The class that maps are made and judged for.")
    ] = "true",
    baseline: Annotated[
        str | None,
        Option(
            metavar="black|mean|blur|noisy-linear",
            help="What takes the place of removed pixels.",
            show_default="each metric's own",
        ),
    ] = None,
    limit: Annotated[
        int | None, Option(metavar="N", min=1, help="The most images.", show_default="all, 500 of the demo's scenes")
    ] = None,
    seed: Annotated[int, Option(metavar="N", min=0, help="Of what is random, such as the order of ties.")] = 0,
    jobs: Annotated[
        int, Option(metavar="N", min=1, help="Processes that work side by side; the cores are shared out among them.")
    ] = 1,
    output: Annotated[
        Path, Option(metavar="FOLDER", help="Where to write. What is there of the same evaluation is not done again.")
    ] = Path("report"),
    device: Annotated[str, Option(metavar="auto|cpu|cuda", help="Where to run.")] = "auto",
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Measure which methods' maps to believe, on images of your own.

    For each method and metric the mean over the images with a 95 %
    interval, beside a random map, a constant one, a Gaussian, and the
    map of another class. An interrupted evaluation goes on where it was.
    """
    from onnxplain.commands.evaluation_tables import evaluation_tables, not_measured
    from onnxplain.evaluation import METRICS, open_data, summarize, write_report
    from onnxplain.evaluation import evaluate as run
    from onnxplain.runtime import Explainer, available_methods

    arguments.check_writable(output)
    console = display.make_console(quiet)
    with console.status(f"loading {artifact}"), reporting.warnings_shown():
        packed = FORMATS[format_of(artifact)].has_packed
        explainer = Explainer(artifact, device, trust=trust, threads=_threads(jobs), packed=packed)
    metadata = explainer.metadata
    names = {"all": [method.name for method in available_methods(metadata)]}
    measures = {"all": list(METRICS), "default": None}
    samples = open_data(data, metadata.labels, limit)
    for line in samples.warnings:
        reporting.print_warning(line)
    started = time.monotonic()
    with _EvaluationProgress(console) as progress:
        try:
            results = run(
                explainer,
                samples,
                None if methods is None else names.get(methods, arguments.listed(methods)),
                measures.get(metrics, arguments.listed(metrics)),
                target=target,
                baseline=baseline,
                seed=seed,
                jobs=jobs,
                output=output,
                data=samples.description,
                progress=progress.image_done,
            )
        except KeyboardInterrupt:
            reporting.print_error("interrupted; the same command goes on where it was")
            raise typer.Exit(130) from None
    found = summarize(results, METRICS)
    for table in evaluation_tables(found, METRICS, results.costs, console.width):
        console.print(table)
    for line in not_measured(found, results.run["metrics"], METRICS):
        console.print(line, soft_wrap=True, markup=False)
    with console.status("writing the report"):
        written = write_report(
            results, METRICS, output, lambda name: _sheet(explainer, samples, results.run, name), found
        )
    seconds = time.monotonic() - started
    console.print(f"evaluated {counted(len(results.images), 'image')} in {seconds:.0f} s", soft_wrap=True)
    console.print(f"wrote {', '.join(path.name for path in written)} into {output}", soft_wrap=True)
    for name, error in results.errors.items():
        reporting.print_error(f"{name}: {error}")
    if results.errors:
        raise typer.Exit(2)


class _EvaluationProgress(display.Bars):
    """A bar for the images, with the time left and the runs for the logits alone in a minute."""

    def __init__(self, console: PlainConsole) -> None:
        super().__init__(console)
        self._task = self.add_task("measuring costs", total=None)
        self._first: tuple[float, int] | None = None

    def image_done(self, done: int, total: int, runs: int) -> None:
        """Count an image; the rate is that since the first one."""
        now = time.monotonic()
        since, before = self._first = self._first or (now, runs)
        rate = f", {60 * (runs - before) / (now - since):,.0f} runs a minute" if runs > before else ""
        self.update(self._task, completed=done, total=total, description=f"evaluating{rate}")


def metrics(as_json: AsJson = False) -> None:
    """List the metrics of the command evaluate: what each measures, which way is better, and its source."""
    from onnxplain.evaluation import METRICS

    if as_json:
        print_json(metrics_document(METRICS.values()))
        return
    console = display.make_console()
    table = display.table("metric", "better", "baseline", "what it measures", whole=("metric",))
    for row in METRICS.values():
        mark = "*" if row.default else ""
        table.add_row(row.name + mark, row.better, row.baseline or "-", f"{row.summary} ({row.reference})")
    console.print(table)
    console.print("* measured unless others are named")


def _threads(jobs: int) -> int | None:
    """The threads of each of several processes, which share the cores; None for all of them."""
    return None if jobs == 1 else max(1, (os.cpu_count() or 1) // jobs)


def _sheet(explainer: "Explainer", samples: "DataSet", run: Mapping[str, Any], name: str) -> "Image.Image":
    """The maps of all methods for the classes of the image of that name, as the evaluation made them."""
    from onnxplain.runtime import comparison_sheet

    sample = samples[list(samples.names).index(name)]
    targets = list(sample.labels) if run["target"] == "true" else [-1]
    return comparison_sheet(explainer.explain_all(sample.image, targets, methods=run["methods"]))
