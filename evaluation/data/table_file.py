"""Images listed in a CSV file, with labels and boxes."""

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from onnxplain.contract.errors import OnnxplainError, one_line

from ..samples import Boxes, Sample
from .classes import find_classes
from .data_set import DataSet, of_samples, spread
from .listed_files import find_files, read_text

COLUMNS = ["path", "label"]
BOX = ["x0", "y0", "x1", "y1"]
Box = tuple[float, float, float, float]


def open_table(path: Path, labels: Sequence[str], limit: int | None = None) -> DataSet:
    """The images of a CSV file with the columns path, label and, if boxes are known, x0, y0, x1, y1.

    An image with several labels or boxes has a row for each. A row without numbers has a label only.

    Args:
        path: The CSV file; the paths in it are from its folder.
        labels: Of the artifact's classes.
        limit: The most images.

    Raises:
        OnnxplainError: If it is no such file, or none of its images or labels can be used.
    """
    rows = _read(path)
    classes, warnings = find_classes([label for _, label, _ in rows], labels, path)
    shown: dict[str, dict[int, list[Box]]] = defaultdict(lambda: defaultdict(list))
    for name, label, box in rows:
        if label in classes:
            shown[name][classes[label]] += [box] if box else []
    skipped = len({name for name, _, _ in rows}) - len(shown)
    if skipped:
        warnings.append(f"{skipped} of {skipped + len(shown)} images show no class of the artifact: skipped")
    files, missing = find_files(path, list(shown), [path.parent])
    samples = []
    for name in spread(list(files), limit):
        regions = {index: Boxes(tuple(boxes)) for index, boxes in shown[name].items() if boxes}
        samples.append(Sample(name, files[name], tuple(sorted(shown[name])), regions))
    return of_samples(str(path), samples, [*warnings, *missing])


def _read(path: Path) -> list[tuple[str, str, Box | None]]:
    """The path, label and box of each row."""
    text = read_text(path)
    try:
        reader = csv.reader(StringIO(text), strict=True)
        (_, header), *lines = [(reader.line_num, line) for line in reader] or [(0, [])]
    except csv.Error as error:
        raise OnnxplainError(f"{path} is no CSV file: {one_line(error)}") from None
    if header not in (COLUMNS, COLUMNS + BOX):
        raise OnnxplainError(
            f"the first line of {path} must be {','.join(COLUMNS)} or {','.join(COLUMNS + BOX)}, "
            f"got {one_line(','.join(header) or 'nothing')}"
        )
    return [_row(path, number, line, len(header)) for number, line in lines if line]


def _row(path: Path, number: int, line: list[str], columns: int) -> tuple[str, str, Box | None]:
    if len(line) != columns or not line[0] or not line[1]:
        raise OnnxplainError(f"line {number} of {path} must have {columns} columns with a path and a label")
    name = Path(line[0]).as_posix()
    if not any(line[2:]):
        return name, line[1], None
    try:
        left, top, right, bottom = map(float, line[2:])
        valid = -math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf
    except ValueError:
        valid = False
    if not valid:
        raise OnnxplainError(f"line {number} of {path} has no box: x0 < x1 and y0 < y1 must be pixels, got {line[2:]}")
    return name, line[1], (left, top, right, bottom)
