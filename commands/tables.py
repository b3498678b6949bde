"""The tables of the command line: models, methods, and an artifact's metadata."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxplain.commands.display import FINEST, INEXACT, dimensions, percent, table
from onnxplain.commands.printable import printable
from onnxplain.contract.precisions import PRECISIONS

if TYPE_CHECKING:
    from onnxplain.catalog import Library, Row
    from onnxplain.contract import Metadata
    from onnxplain.runtime import Method

NEAR = 10  # times the value: at that much, a comparison with PyTorch comes near its limit
ROUNDED = {"half_even": "half to even", "floor": "down"}  # where a crop begins, by the name in the metadata
WHOLE = ("output", "value", "limit", "passed")  # columns
OPTIONS = "Parameters are options of explain: head_fusion is --head-fusion."
MEASURED = "the largest difference from the map in float64 on the random images of the export, relative to it"


def models_table(rows: Iterable["Row"], libraries: Mapping[str, "Library"]) -> Table:
    """The models with a name and their weights, and the libraries whose models are named as <library>/<name>."""
    result = table("model", "what it is, and its weights", whole=("model",))
    for row in rows:
        needs = "--head or --prompts" if row.open_clip else "--head"
        classes = f"{row.classes} classes" if row.classes else f"classes with {needs}"
        weights = (row.repository or f"timm {row.architecture}", "dim")
        result.add_row(row.name, Text.assemble(f"{row.about}; {classes}\n", weights))
    result.add_row("demo", "the small model that comes with onnxplain; 10 classes")
    for name, library in libraries.items():
        result.add_row(f"{name}/<name>", library.about)
    return result


def methods_table(methods: Iterable["Method"], metadata: "Metadata | None" = None) -> Table:
    """The methods with the passes they need, their summaries, parameters and references.

    Args:
        methods: One row for each.
        metadata: An artifact's, for how far its precision is off and the parameters that are fixed in a plain artifact.
    """
    shares = () if metadata is None else ("error",)
    heatmaps = {} if metadata is None else metadata.heatmaps
    result = table("method", *shares, "passes", "what the map shows", right=shares, whole=("method", *shares, "passes"))
    options = "Parameters were fixed at export." if heatmaps else OPTIONS
    result.caption = Text(options, justify="left")
    if metadata is not None:
        result.caption += Text(f"\nerror: {MEASURED}; -: not measured.")
    for method in methods:
        parameters = given_as_text(heatmaps.get(method.name, method.defaults))
        lines = [method.summary, *([f"parameters: {parameters}"] if parameters else [])]
        about = Text.assemble("\n".join(lines), "\n", (method.reference, "dim"))
        share = [] if metadata is None else [percent(metadata.resolution.get(method.name))]
        result.add_row(Text(method.name, "bold"), *share, Text("\n".join(method.passes) or "none"), about)
        result.add_section()
    return result


def given_as_text(parameters: Mapping[str, Any]) -> str:
    """In one line: name=value, name=value."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())


def _heatmaps(metadata: "Metadata") -> str:
    """In one line: the methods whose maps are outputs, and their arguments."""
    parts = [f"{name}({given_as_text(arguments)})" for name, arguments in metadata.heatmaps.items()]
    flags = {"none": "all are always computed", "required": "each has a flag that must be fed"}
    return f"{', '.join(parts)}; {flags.get(metadata.flags, 'each has an optional flag')}"


def _resolution(shares: Mapping[str, float]) -> str:
    """In one line: the methods whose maps are inexact, and how exact the others are."""
    poor = {name: share for name, share in shares.items() if share > INEXACT}
    rest = max((share for name, share in shares.items() if name not in poor), default=None)
    parts = [f"{name} {percent(share)}" for name, share in sorted(poor.items(), key=lambda item: -item[1])]
    parts += [f"{'all others' if poor else 'all'} within {percent(max(rest, FINEST))}"] if rest is not None else []
    return ", ".join(parts) or "not measured"


def show_parity(console: Console, report: Mapping[str, Any], verbose: bool) -> None:
    """Print the result of the comparison with PyTorch in one line, and the rows near their limits, or all."""
    checks = report.get("checks", ())
    near = [row for row in checks if not row["passed"] or row["value"] * NEAR > row["limit"]]
    passed = sum(row["passed"] for row in checks)
    verdict = "computes" if passed == len(checks) else "does not compute"
    rest = "" if near or verbose else f", none within a factor of {NEAR} of it"
    console.print(
        f"the file {verdict} what the model computes in PyTorch: {passed} of {len(checks)} comparisons are within "
        f"their limit{rest}",
        soft_wrap=True,
    )
    if near and not verbose:
        console.print(f"{'' if passed == len(checks) else 'beyond, or '}within a factor of {NEAR} of their limit:")
    if verbose or near:
        console.print(parity_table({**report, "checks": checks if verbose else near}))
    else:
        for note in report.get("notes", ()):
            console.print(note, soft_wrap=True)


def parity_table(report: Mapping[str, Any]) -> Table:
    """The comparison with PyTorch, from `Report.to_dict()`, which is also `Metadata.parity`."""
    result = table("output", "compared with PyTorch", "value", "limit", "passed", right=("value", "limit"), whole=WHOLE)
    for row in report.get("checks", ()):
        value, limit, passed = row["value"], row["limit"], row["passed"]
        verdict = Text("yes", "green") if passed else Text("NO", "bold red")
        result.add_row(row["output"], row["check"], f"{value:.2g}", f"≤ {limit:.2g}", verdict)
    notes = [printable(note) for note in report.get("notes", ())]
    result.caption = Text("\n".join(notes), "table.caption") if notes else None
    return result


def metadata_table(metadata: "Metadata") -> Table:
    """An artifact's metadata, one line for each; of the labels only the first, and without parity."""
    layout, preprocessing, labels = metadata.layout, metadata.preprocessing, metadata.labels
    checksum = metadata.checkpoint["sha256"]
    reads = f"token {layout.readout[0]}" if len(layout.readout) == 1 else f"the mean of {len(layout.readout)} tokens"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    taken = "images of any size, which the graph makes " if metadata.input == "image" else ""
    rows = {
        "model": metadata.model,
        "weights": f"{metadata.checkpoint['source']}{f', SHA-256 {checksum}' if checksum else ''}",
        "labels": f"{len(labels)}: {'; '.join(labels[:3])}{'; …' if len(labels) > 3 else ''}",
        "scores": f"{metadata.activation} of the logits",
        "input": f"{taken}{dimensions(preprocessing.size)} pixels (height x width)",
        "resize": f"{preprocessing.interpolation}; {preprocessing.crop_mode} crop of {preprocessing.crop_pct:g}; "
        f"offset rounded {ROUNDED[preprocessing.crop_rounding]}",
        "normalize": f"mean {mean}; standard deviation {std}",
        "tokens": f"{layout.tokens}: {layout.prefix_tokens} before the {dimensions(layout.patch_grid)} patches",
        "readout": f"the head reads {reads}",
        "attention": f"{metadata.layers} layers of {metadata.heads} heads",
        "passes": ", ".join(metadata.passes),
        **({"heatmaps": _heatmaps(metadata)} if metadata.heatmaps else {}),
        "LRP": ", ".join(f"{name} {value:g}" for name, value in metadata.rules.items()),
        "precision": f"{metadata.precision}: {PRECISIONS[metadata.precision]}",
        f"{metadata.precision} error": f"of maps: {_resolution(metadata.resolution)}",
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        grid.add_row(Text(name, "bold"), value)
    return grid
