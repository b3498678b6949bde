"""What the command line shows and writes: tables, the place of a heatmap in words, overlays as files."""

import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from onnxplain.cli_text import shown

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.export import Row
    from onnxplain.runtime import Explanation, Metadata, Method

MEASURED = "by how much rounding changed the worst map when the file was exported, on random images"
PIPE_WIDTH = 1000  # columns where the output is no terminal: no line is broken there
VERTICAL, HORIZONTAL = ("upper", "middle", "lower"), ("left", "centre", "right")
SLUG_LENGTH = 60  # of a class in a file name
INEXACT = 0.03  # share by which float32 is off in a map that is said to be inexact
NAME_BYTES = 240  # of a file name, without what makes it a new one: most file systems take 255
PNG_LEVEL = 1  # for a photograph five times as fast as the default, and the file a tenth larger


class PlainStatus(Status):
    """A line that says what is being done, without markup and control characters."""

    def __init__(self, status: str, console: Console) -> None:
        super().__init__(Text(shown(status)), console=console)

    def update(self, status: str) -> None:
        """Say something else."""
        super().update(Text(shown(status)))


class PlainConsole(Console):
    """Shows every string without markup, as labels and file names may hold brackets, and without control characters.

    A `Text` is shown as it is: only what is made of `shown` strings, or breaks lines on purpose, is given as one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """What becomes of each string that is printed or stands in a table."""
        return super().render_str(shown(text), **options)

    def status(self, status: str) -> PlainStatus:
        """See PlainStatus."""
        return PlainStatus(status, self)


def make_console() -> PlainConsole:
    """Standard output."""
    return PlainConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH)


class Bars(Progress):
    """Bars that are gone when they are done; there are none where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)


class ExplainingProgress(Bars):
    """Bars for the pictures and, where methods need many runs of the graph, for the runs of the picture at hand."""

    def __init__(self, console: Console, pictures: int) -> None:
        super().__init__(console)
        self._pictures = self.add_task("explaining", total=pictures)
        self._runs = self.add_task("runs", visible=False)

    def runs(self, done: int, total: int) -> None:
        """So many of a picture's runs are done."""
        self.update(self._runs, completed=done, total=total, visible=done < total)

    def next_picture(self) -> None:
        """A picture is done."""
        self.advance(self._pictures)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in `right` are for numbers."""
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        result.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return result


def file_size(path: Path) -> str:
    """The size of a file, for people."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def models_table(rows: Iterable["Row"], sources: Mapping[str, str]) -> Table:
    """The models with a name, and the libraries whose models have two."""
    result = table("model", "what it is", "classes", "weights")
    for row in rows:
        classes = str(row.classes) if row.classes else "with --head or --prompts" if row.open_clip else "with --head"
        result.add_row(row.name, row.about, classes, row.repository or f"timm {row.timm_name}")
    result.add_row("demo", "the small model that comes with onnxplain", "10", "in the package")
    for library, about in sources.items():
        result.add_row(f"{library}/<name>", about, "", "")
    return result


def methods_table(methods: Iterable["Method"], resolution: Mapping[str, float] | None = None) -> Table:
    """The methods with what they need, and under each summary where the method comes from.

    `resolution`: of an artifact, shown as a column.
    """
    shares = () if resolution is None else ("float32 error",)
    result = table("method", *shares, "passes", "parameters", "what the map shows", right=shares)
    result.caption = Text("Parameters are options of explain: head_fusion is --head-fusion.", justify="left")
    if resolution is not None:
        result.caption += Text(f"\nfloat32 error: {MEASURED}; -: not measured.")
    for method in methods:
        parameters = Text(
            "\n".join(f"{parameter.name}={parameter.default}" for parameter in method.parameters) or "none"
        )
        passes = Text("\n".join(method.passes) or "none")
        about = Text.assemble(method.summary, "\n", (method.reference, "dim"))
        share = [] if resolution is None else [_percent(resolution.get(method.name))]
        result.add_row(Text(method.name, "bold"), *share, passes, parameters, about)
        result.add_section()
    return result


def inexact(explanation: "Explanation") -> str:
    """A warning where float32 resolves the map badly; else empty."""
    share = explanation.resolution
    if share is None or share <= INEXACT:
        return ""
    return f"inexact: float32 changes maps of this method by up to {_percent(share)} here, on random images"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _resolution(shares: Mapping[str, float]) -> str:
    """In one line: the methods whose maps are inexact, and how exact the others are."""
    poor = {name: share for name, share in shares.items() if share > INEXACT}
    rest = max((share for name, share in shares.items() if name not in poor), default=None)
    parts = [f"{name} {_percent(share)}" for name, share in sorted(poor.items(), key=lambda item: -item[1])]
    parts += [f"{'all others' if poor else 'all'} within {_percent(rest)}"] if rest is not None else []
    return ", ".join(parts) or "not measured"


def parity_table(report: Mapping[str, Any]) -> Table:
    """The comparison with PyTorch, from `Report.to_dict()`, which is also `Metadata.parity`."""
    result = table("output", "compared with PyTorch", "value", "limit", "passed", right=("value", "limit"))
    for row in report.get("checks", ()):
        value, limit, passed = row["value"], row["limit"], row["passed"]
        verdict = Text("yes", "green") if passed else Text("NO", "bold red")
        result.add_row(row["output"], row["check"], f"{value:.2g}", f"≤ {limit:.2g}", verdict)
    notes = [shown(note) for note in report.get("notes", ())]
    result.caption = Text("\n".join(notes), "table.caption") if notes else None
    return result


def metadata_table(metadata: "Metadata") -> Table:
    """An artifact's description, one line for each thing it says; without labels in full and parity."""
    layout, preprocessing, labels = metadata.layout, metadata.preprocessing, metadata.labels
    checksum = metadata.checkpoint["sha256"]
    reads = f"token {layout.readout[0]}" if len(layout.readout) == 1 else f"the mean of {len(layout.readout)} tokens"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    rows = {
        "model": metadata.model,
        "weights": f"{metadata.checkpoint['source']}{f', SHA-256 {checksum}' if checksum else ''}",
        "labels": f"{len(labels)}: {'; '.join(labels[:3])}{'; …' if len(labels) > 3 else ''}",
        "scores": f"{metadata.activation} of the logits",
        "input": f"{_by(preprocessing.size)} pixels (height x width)",
        "resize": f"{preprocessing.interpolation}; {preprocessing.crop_mode} crop of {preprocessing.crop_pct:g}; "
        f"offset rounded by {preprocessing.crop_rounding}",
        "normalize": f"mean {mean}; standard deviation {std}",
        "tokens": f"{layout.tokens}: {layout.prefix_tokens} before the {_by(layout.patch_grid)} patches",
        "readout": f"the head reads {reads}",
        "attention": f"{metadata.layers} layers of {metadata.heads} heads",
        "passes": ", ".join(metadata.passes),
        "LRP": ", ".join(f"{name} {value:g}" for name, value in metadata.rules.items()),
        "float32 error": f"of maps: {_resolution(metadata.resolution)}",
    }
    grid = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        grid.add_row(Text(name, "bold"), value)
    return grid


def draw(folder: Path, picture: Path, answer: list["Explanation"] | dict[str, list["Explanation"]]) -> list[Path]:
    """Write the overlay of every class explained, or for all methods the comparison sheet; the files."""
    from onnxplain.runtime import comparison_sheet

    if isinstance(answer, dict):
        return [save(comparison_sheet(answer), folder, _named(picture, "all-methods"))]
    names = [_named(picture, f"{item.method}.{slug(item.label) or f'class-{item.target}'}") for item in answer]
    return [save(item.overlay(), folder, name) for item, name in zip(answer, names, strict=True)]


def _named(picture: Path, rest: str) -> str:
    """The name of a file about the picture, whose own name is cut where both are longer than file systems take."""
    stem = picture.stem
    while len(os.fsencode(stem)) > NAME_BYTES - len(rest):
        stem = stem[:-1]
    return f"{stem}.{rest}"


def show(console: Console, picture: Path, explanations: list["Explanation"], files: list[Path]) -> None:
    """Print what the model sees in a picture, then, for every class explained, where, and the file that shows it."""
    _show_predictions(console, picture, explanations[0])
    for item, path in zip(explanations, files, strict=True):
        _show_class(console, item)
        console.print(f"  {location(item)}", soft_wrap=True)
        if inexact(item):
            console.print(f"  {inexact(item)}", soft_wrap=True)
        console.print(f"  {path}", soft_wrap=True)
    console.print()


def show_all(console: Console, picture: Path, explanations: dict[str, list["Explanation"]], files: list[Path]) -> None:
    """Print what the model sees in a picture, then where, by class and method, and the file that shows it all."""
    classes = list(zip(*explanations.values(), strict=True))
    _show_predictions(console, picture, classes[0][0])
    for items in classes:
        _show_class(console, items[0])
        width = max(len(item.method) for item in items)
        for item in items:
            console.print(
                f"  {item.method:{width}}  {'; '.join(filter(None, (location(item), inexact(item))))}", soft_wrap=True
            )
    for path in files:
        console.print(f"  {path}", end="\n\n", soft_wrap=True)


def show_left_out(console: Console, metadata: "Metadata") -> None:
    """Say which of the methods the artifact has the passes for are not compared, and why."""
    from onnxplain.runtime import comparable_methods

    _, left_out = comparable_methods(metadata.passes, metadata.layout.tokens)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", soft_wrap=True)


def _show_predictions(console: Console, picture: Path, explanation: "Explanation") -> None:
    console.print(
        Text.assemble((shown(str(picture)), "bold"), f", {_by(explanation.image.size)} pixels"), soft_wrap=True
    )
    top = table("rank", "class", "index", "probability", right=("rank", "index", "probability"))
    for rank, (index, label, probability) in enumerate(explanation.predictions, start=1):
        top.add_row(str(rank), label, str(index), f"{probability:.2%}")
    console.print(top)


def _show_class(console: Console, item: "Explanation") -> None:
    title = Text.assemble((shown(item.label), "bold green"), f" (class {item.target}), score {item.score:.3f}")
    console.print(title, soft_wrap=True)


def location(explanation: "Explanation") -> str:
    """Where the map that is drawn is highest: in words, the pixel, and the patch that holds it."""
    peak = explanation.peak()
    if peak is None:
        flat = explanation.input_heatmap.min() == explanation.input_heatmap.max()
        return "the heatmap is the same everywhere" if flat else "the heatmap is nowhere above zero"
    (y, x), (width, height), grid = peak, explanation.image.size, explanation.tokens.shape
    thirds = VERTICAL[3 * (2 * y + 1) // (2 * height)], HORIZONTAL[3 * (2 * x + 1) // (2 * width)]
    words = " ".join(thirds).removeprefix("middle ")
    row, column = explanation.placement.patch_of(peak, grid)
    return f"highest at the {words}: pixel x {x}, y {y}; patch row {row}, column {column} of {_by(grid)}"


def slug(label: str) -> str:
    """A label's first synonym in the letters a-z, digits and hyphens; empty if it has none of them."""
    letters = unicodedata.normalize("NFKD", label.partition(",")[0]).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", letters)[:SLUG_LENGTH].strip("-")


def save(image: "Image.Image", folder: Path, name: str) -> Path:
    """Write name.png, or name-2.png and so on where that exists: whole or not at all, and never over a file.

    Raises OSError that names the file.
    """
    from onnxplain.runtime.files import unfinished

    path = folder / f"{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with unfinished(folder) as scratch:
            temporary = scratch / "overlay.png"
            image.save(temporary, compress_level=PNG_LEVEL)
            for number in itertools.count(2):
                try:
                    _rename(temporary, path)
                    return path
                except FileExistsError:
                    path = folder / f"{name}-{number}.png"
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    raise AssertionError


def _rename(file: Path, path: Path) -> None:
    """In one step, so that a process killed here leaves nothing by that name; FileExistsError if there is a file."""
    try:
        os.link(file, path)  # rename() would replace it
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.touch(exist_ok=False)
        file.replace(path)


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
