"""The numbers of a report as CSV."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from .records import MAPS, THUMBNAILS, ImageRecord

COLUMNS = (
    "image", "true", "true_label", "predicted", "predicted_label", "predicted_probability", "right",
    "target", "label", "score", "probability", "method", "parameters", "x", "y", "thumbnail", "map", "image_file",
)  # fmt: skip


def write_table(path: Path, images: Iterable[ImageRecord], labels: Sequence[str]) -> None:
    """One row for each image, class and method.

    What is not known is empty: the true class, and x and y of the pixel where the map is highest, if it is the same
    everywhere or nowhere above zero. Files are relative to the report.
    """
    # A file's name need not be valid text
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for image in images:
            predicted, share = image.predictions[0]
            about = (
                image.name,
                image.true,
                None if image.true is None else labels[image.true],
                predicted,
                labels[predicted],
                share,
                None if image.right is None else str(image.right).lower(),
            )
            for place, item in enumerate(image.maps):
                y, x = item.peak or (None, None)
                numbers = (item.target, labels[item.target], item.score, item.probability, item.method)
                parameters = json.dumps(dict(item.parameters), sort_keys=True)
                shown = (image.map_file(THUMBNAILS, place), image.map_file(MAPS, place), image.file)
                writer.writerow((*about, *numbers, parameters, x, y, *shown))
