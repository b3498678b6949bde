"""The numbers of a report as CSV."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from .records import MAPS, THUMBNAILS, PictureRecord

COLUMNS = (
    "image", "true", "true_label", "predicted", "predicted_label", "predicted_probability", "right",
    "target", "label", "score", "probability", "method", "parameters", "x", "y", "thumbnail", "map", "picture",
)  # fmt: skip


def write_table(path: Path, pictures: Iterable[PictureRecord], labels: Sequence[str]) -> None:
    """One row for each picture, class and method.

    What is not known is empty: the true class, and x and y of the pixel where the map is highest if it is the same
    everywhere. Files are relative to the report.
    """
    # A file's name need not be valid text
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for picture in pictures:
            predicted, share = picture.predictions[0]
            about = (
                picture.name,
                picture.true,
                None if picture.true is None else labels[picture.true],
                predicted,
                labels[predicted],
                share,
                None if picture.right is None else str(picture.right).lower(),
            )
            for place, item in enumerate(picture.maps):
                y, x = item.peak or (None, None)
                numbers = (item.target, labels[item.target], item.score, item.probability, item.method)
                parameters = json.dumps(dict(item.parameters), sort_keys=True)
                images = (picture.map_file(THUMBNAILS, place), picture.map_file(MAPS, place), picture.file)
                writer.writerow((*about, *numbers, parameters, x, y, *images))
