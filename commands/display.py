"""Output of the command line: tables, progress, the place of a heatmap in words."""

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from onnxplain.commands.printable import printable
from onnxplain.contract.precisions import FLOAT32

if TYPE_CHECKING:
    from onnxplain.commands.products import Written
    from onnxplain.contract import Metadata
    from onnxplain.runtime import Explanation
    from onnxplain.runtime.pipeline import ByMethod

PIPE_WIDTH = 1000  # columns where the output is no terminal: no line is broken there
LEAST_WIDTH = 72  # columns of tables; a narrower terminal breaks their lines, where rich would cut numbers
VERTICAL, HORIZONTAL = ("upper", "middle", "lower"), ("left", "centre", "right")
SLUG_LENGTH = 60  # of a class in a file name
FINEST = 0.0005  # the least share that is shown as a number, 0.1%
INEXACT = 0.03  # share by which the artifact is off in a map that is said to be inexact


class PlainStatus(Status):
    """A line that says what is being done, without markup and control characters."""

    def __init__(self, status: RenderableType, **options: Any) -> None:
        super().__init__(_plain(status), **options)

    def update(self, status: RenderableType | None = None, **options: Any) -> None:
        """Replace the line."""
        super().update(None if status is None else _plain(status), **options)


def _plain(what: RenderableType) -> RenderableType:
    return Text(printable(what)) if isinstance(what, str) else what


class PlainConsole(Console):
    """A console that shows strings without markup, as labels may hold brackets, and without control characters.

    A `Text` is shown as it is, so it has to be made of `printable` strings.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, with tables no narrower than LEAST_WIDTH."""
        before = self._width
        if self.width < LEAST_WIDTH and any(isinstance(each, Table) for each in objects):
            self.width = LEAST_WIDTH
        try:
            super().print(*objects, **options)
        finally:
            self._width = before

    def render_str(self, text: str, **options: Any) -> Text:
        """Called with each string that is printed or stands in a table."""
        return super().render_str(printable(text), **options)

    def status(self, status: RenderableType, **options: Any) -> PlainStatus:
        """A line that says what is being done, see PlainStatus."""
        return PlainStatus(status, console=self, **options)


def make_console(quiet: bool = False) -> PlainConsole:
    """Standard output, or nothing. As wide as the terminal, or as the environment's COLUMNS."""
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and len(columns) < 5 else 0
    return PlainConsole(width=None if sys.stdout.isatty() else width or PIPE_WIDTH, quiet=quiet)


@contextmanager
def stages(console: PlainConsole, first: str) -> Iterator[Callable[[str], None]]:
    """Show the stages of the work: in a terminal in one line that changes, else in a line for each.

    Yields:
        What to call with the name of each stage. What follows a comma in it, such as how far the stage is, is shown in
        a terminal only.
    """
    if console.is_terminal:
        with console.status(first) as status:
            yield status.update
        return
    last = ""

    def tell(stage: str) -> None:
        nonlocal last
        what = stage.partition(", ")[0]
        if what != last:
            console.print(what, soft_wrap=True)
        last = what

    tell(first)
    yield tell


class Bars(Progress):
    """Bars that are gone when they are done; there are none where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)


class ExplainingProgress(Bars):
    """Bars for the images and, for methods that need many runs of the graph, for the runs of the current image."""

    def __init__(self, console: Console, images: int) -> None:
        super().__init__(console)
        self._images = self.add_task("explaining", total=images)
        self._runs = self.add_task("runs", visible=False)

    def runs(self, done: int, total: int) -> None:
        """Show how many of an image's runs are done."""
        self.update(self._runs, completed=done, total=total, visible=done < total)

    def next_image(self) -> None:
        """Count an image as done."""
        self.advance(self._images)


def table(*columns: str, right: tuple[str, ...] = (), whole: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `right` are for numbers, those in `whole` for names that are never broken."""
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        result.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in whole)
    return result


def file_size(path: Path) -> str:
    """The size of a file, for people."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def inexact(explanation: "Explanation") -> str:
    """A warning where the artifact's precision resolves the map badly; else empty."""
    share = explanation.resolution
    if share is None or share <= INEXACT:
        return ""
    much = f"{'' if share >= 1 else 'up to '}{percent(share)}"
    off = f"{explanation.precision} changes maps of this method by {much} here, on random images"
    cheaper = "" if explanation.precision == FLOAT32 else "--precision float32 may be enough, and "
    return f"{off}; {cheaper}export --precision float64, in ONNX, avoids this"


def percent(share: float | None) -> str:
    """A share in percent, with one digit below ten; - for None. What is measured as 1 can be any more."""
    if share is None:
        return "-"
    if share >= 1:
        return "100% or more"
    return "<0.1%" if share < FINEST else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def show(console: Console, image: Path, explanations: "ByMethod", files: Sequence["Written"]) -> None:
    """Print what the model sees in an image, then, by class and method, where, and the files that show it.

    Args:
        console: Where to print.
        image: The image's name.
        explanations: By method, one for each class.
        files: Those that were written about the image.
    """
    show_predictions(console, image, next(iter(explanations.values()))[0])
    show_places(console, explanations, files)
    console.print()


def show_places(console: Console, explanations: "ByMethod", files: Sequence["Written"]) -> None:
    """Print, by class and method, where maps are high; see `show`."""
    classes = list(zip(*explanations.values(), strict=True))
    width = max(map(len, explanations))
    for items in classes:
        title = Text.assemble((printable(items[0].label), "bold green"), f" (class {items[0].target}), ")
        console.print(Text.assemble(title, f"score {items[0].score:.3f}"), soft_wrap=True)
        for method, item in zip(explanations, items, strict=True):
            lines = remarks(item)
            own = [str(file.path) for file in files if (file.method, file.target) == (method, item.target)]
            lines = [*lines, *own] if own else ["; ".join(lines)]
            name = f"{method:{width}}  " if len(items) > 1 else ""
            for line in lines:
                console.print(f"  {name}{line}", soft_wrap=True)
                name = " " * len(name)
    for file in files:
        if file.method is None or file.target is None:
            console.print(f"  {file.path}", soft_wrap=True)


def show_view(console: Console, name: Path, size: tuple[int, int], about: str, file: Path) -> None:
    """Print what is shown of an image without a class, and the file that shows it."""
    _show_name(console, name, size)
    for line in (about, str(file)):
        console.print(f"  {line}", soft_wrap=True)
    console.print()


def show_left_out(console: Console, metadata: "Metadata") -> None:
    """Say which of the methods the artifact has the passes for are not compared, and why."""
    from onnxplain.runtime import comparable_methods

    _, left_out = comparable_methods(metadata)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", soft_wrap=True)


def _show_name(console: Console, name: Path, size: tuple[int, int]) -> None:
    console.print(Text.assemble((printable(str(name)), "bold"), f", {dimensions(size)} pixels"), soft_wrap=True)


def show_predictions(console: Console, image: Path, explanation: "Explanation") -> None:
    """Print the image's name and its most probable classes."""
    _show_name(console, image, explanation.image.size)
    top = table("rank", "class", "index", "probability", right=("rank", "index", "probability"))
    for rank, (index, label, probability) in enumerate(explanation.predictions, start=1):
        top.add_row(str(rank), label, str(index), f"{probability:.2%}")
    console.print(top)


def inexact_methods(explanations: "ByMethod") -> dict[str, str]:
    """By method why its maps may be inexact, see `inexact`; without those that are not."""
    return {method: why for method, (item, *_) in explanations.items() if (why := inexact(item))}


def remarks(explanation: "Explanation") -> list[str]:
    """What is printed of a map: where it is highest, and why it may be inexact, if it may."""
    why = inexact(explanation)
    return [location(explanation), *([f"inexact: {why}"] if why else [])]


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
    return f"highest at the {words}: pixel x {x}, y {y}; patch row {row}, column {column} of {dimensions(grid)}"


def slug(label: str) -> str:
    """A label's first synonym in the letters a-z, digits and hyphens; empty if it has none of them."""
    letters = unicodedata.normalize("NFKD", label.partition(",")[0]).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", letters)[:SLUG_LENGTH].strip("-")


def dimensions(sizes: tuple[int, ...]) -> str:
    """Such as 224 x 384."""
    return " x ".join(map(str, sizes))
