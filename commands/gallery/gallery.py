"""Writes the report of many pictures: takes the explanations of each as they come, and then the page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands.new_folder import check_new_folder, new_folder, written
from onnxplain.commands.printable import printable

from .page import GENERATOR, write_page
from .records import MAPS, PICTURES, THUMBNAILS, MapRecord, PictureRecord
from .table import write_table

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.contract import Metadata
    from onnxplain.runtime import Explanation

LARGE = 384, 1024
"""Pixels of the longer side of a picture on the page, at least and at most."""
SMALL = 256
"""Of its thumbnail, at most."""
QUALITY = {PICTURES: 85, MAPS: 85, THUMBNAILS: 80}
"""Of JPEG."""
PAGE, TABLE = "index.html", "results.csv"


class Gallery:
    """A report that is being written.

    Only a small record of each picture stays in memory.

    Attributes:
        errors: What the page says of pictures that could not be explained, one line each.
    """

    def __init__(self, folder: Path, artifact: Path, metadata: "Metadata", true: Mapping[Path, int]) -> None:
        """Make a report without pictures.

        Args:
            folder: Where to write; it is empty.
            artifact: The file that explains.
            metadata: Its metadata.
            true: By image the index of the class that it shows, as far as that is known.
        """
        self.errors: list[str] = []
        self._folder, self._artifact, self._metadata, self._true = folder, artifact, metadata, true
        self._pictures: list[PictureRecord] = []

    def add(self, image: Path, results: Mapping[str, Sequence["Explanation"]]) -> None:
        """Add a picture: its files are written, and its numbers kept.

        Args:
            image: The picture's name.
            results: Its explanations, by method.

        Raises:
            OSError: If a file cannot be written.
        """
        from onnxplain.runtime.figures.figure import fitted, resized

        items = [item for each in results.values() for item in each]
        predictions = [(index, share) for index, _, share in items[0].predictions]
        record = PictureRecord(len(self._pictures) + 1, str(image), self._true.get(image), predictions, [])
        for place, item in enumerate(items):
            large = resized(item, fitted(item.image.size, *LARGE))
            small = resized(large, fitted(large.image.size, 1, SMALL))
            about = {"Model": item.model, "Method": item.title, "Class": item.label}
            if place == 0:
                self._save(large.image, record.file, {})
            self._save(large.overlay(), record.map_file(MAPS, place), about)
            self._save(small.overlay(), record.map_file(THUMBNAILS, place), about)
            record.maps.append(
                MapRecord(
                    item.method, item.parameters, item.title, item.target, item.score, item.probability, item.peak()
                )
            )
        self._pictures.append(record)

    def finish(self) -> None:
        """Write the page and the CSV file; nothing if there are no pictures."""
        if self._pictures:
            write_table(self._folder / TABLE, self._pictures, self._metadata.labels)
            write_page(self._folder / PAGE, self._pictures, self._artifact, self._metadata, self.errors)

    def _save(self, image: "Image.Image", name: str, about: Mapping[str, str]) -> None:
        from onnxplain.runtime.signature import image_options

        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        texts = {keyword: printable(text) for keyword, text in about.items()}
        image.save(path, "JPEG", quality=QUALITY[path.parent.name], **image_options("jpg", texts))


@contextmanager
def new_gallery(folder: Path, artifact: Path, metadata: "Metadata", true: Mapping[Path, int]) -> Iterator[Gallery]:
    """A report in a folder, which is written as a whole at the end of the block: not if that raises, or adds nothing.

    Raises:
        OnnxplainError: If it cannot be written.
    """
    with new_folder(folder) as scratch:
        gallery = Gallery(scratch, artifact, metadata, true)
        yield gallery
        with written(folder):
            gallery.finish()


def check_report(folder: Path, force: bool) -> None:
    """Raise OnnxplainError unless the folder is new or empty, or a report that may be replaced."""
    check_new_folder(folder, "--report", "a report", _is_report, force)


def _is_report(folder: Path) -> bool:
    try:
        with (folder / PAGE).open(encoding="utf-8") as file:
            return GENERATOR in file.read(2000)
    except (OSError, ValueError):
        return False
