"""Everything that is made of the results of an evaluation, as files in a folder."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.evaluation.metrics.metric import Metric
from onnxplain.evaluation.results import Results
from onnxplain.evaluation.statistics import Statistics, summarize
from onnxplain.runtime.files import unfinished

from .csv_files import write_comparisons, write_results, write_scores
from .page import page
from .plots import plots


def write_report(
    results: Results,
    metrics: Mapping[str, Metric],
    folder: str | Path,
    sheet: Callable[[str], Image.Image] | None = None,
    found: Statistics | None = None,
) -> list[Path]:
    """Write results.csv, table.csv, comparisons.csv, report.html, and plots/ with SVG files.

    Files of these names are replaced, each when it is whole. The same results give the same bytes.

    Args:
        results: What was measured.
        metrics: The metrics by name, at least those that were measured.
        folder: Where to write; it is made if need be.
        sheet: From an image's name to its comparison sheet, asked for six images at most; None for a page without.
        found: What `summarize` makes of the results, where it is known already.

    Returns:
        The files.

    Raises:
        OnnxplainError: If the folder cannot be written; or, after the CSV files are, if matplotlib is missing.
    """
    folder = Path(folder)
    found = summarize(results, metrics) if found is None else found
    with _new_files(folder) as scratch:
        write_results(scratch / "results.csv", results, metrics)
        write_scores(scratch / "table.csv", found, metrics, results.costs)
        write_comparisons(scratch / "comparisons.csv", found)
        written = _move(scratch, folder)
    try:
        drawn = plots(found, metrics, results.costs)
    except ImportError as error:
        raise OnnxplainError(
            f"the report needs {error.name}: pip install 'onnxplain[report]'; the CSV files in {folder} are written"
        ) from error
    with _new_files(folder) as scratch:
        (scratch / "plots").mkdir()
        for plot in drawn:
            (scratch / "plots" / f"{plot.kind}_{plot.metric}.svg").write_text(plot.svg, encoding="utf-8")
        text = page(results, metrics, found, drawn, sheet)
        (scratch / "report.html").write_text(text, encoding="utf-8")
        return written + _move(scratch, folder)


@contextmanager
def _new_files(folder: Path) -> Iterator[Path]:
    """A folder to write in, which vanishes at the end of the block."""
    try:
        with unfinished(folder) as scratch:
            (scratch / "new").mkdir()
            yield scratch / "new"
    except OSError as error:
        raise OnnxplainError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error


def _move(scratch: Path, folder: Path) -> list[Path]:
    """Move the files to the same places in the folder."""
    moved = []
    for file in sorted(path for path in scratch.rglob("*") if path.is_file()):
        target = folder / file.relative_to(scratch)
        target.parent.mkdir(exist_ok=True)
        moved.append(file.replace(target))
    return moved
