"""The report of many images: takes the explanations of each as they come, and writes the page at the end."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands.new_folder import put_in_place
from onnxplain.commands.printable import printable
from onnxplain.commands.products import Product, Written, about

from .page import write_page
from .records import IMAGES, MAPS, THUMBNAILS, ImageRecord, MapRecord
from .table import write_table

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.contract import Metadata
    from onnxplain.runtime import Explanation, Style
    from onnxplain.runtime.pipeline import ByMethod

LARGE = 384, 1024
"""Pixels of the longer side of an image on the page, at least and at most."""
SMALL = 256
"""Of its thumbnail, at most."""
QUALITY = {IMAGES: 85, MAPS: 85, THUMBNAILS: 80}
"""Of JPEG."""
PAGE, TABLE = "index.html", "results.csv"


class Gallery(Product):
    """A report that is being written. Only small records of the images stay in memory."""

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        artifact: Path,
        metadata: "Metadata",
        true: Mapping[Path, int],
        errors: Sequence[str],
        style: "Style",
    ) -> None:
        """Begin a report.

        Args:
            folder: The report; it is not there, or is replaced.
            scratch: Where to write until it is finished, on the same file system.
            artifact: The file that explains.
            metadata: Its metadata.
            true: By image the index of the class that it shows, as far as that is known.
            errors: What could not be explained; read at the end.
            style: How maps are drawn; its `layout` and `max_size` do not count.
        """
        self._folder, self._fresh = folder, scratch / "new"
        self._artifact, self._metadata, self._true, self._errors = artifact, metadata, true, errors
        self._style = style
        self._images: list[ImageRecord] = []

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product; the files become the user's at the end."""
        with self._naming_the_folder():
            self._images.append(self._add(image, [item for each in results.values() for item in each]))
        return []

    def finish(self) -> list[Path]:
        """See Product. Without any images no report is written, and one that is there stays."""
        if not self._images:
            return []
        with self._naming_the_folder():
            write_table(self._fresh / TABLE, self._images, self._metadata.labels)
            write_page(self._fresh / PAGE, self._images, self._artifact, self._metadata, self._errors)
            put_in_place(self._fresh, self._folder.resolve())
        return [self._folder / PAGE, self._folder / TABLE]

    def _add(self, image: Path, items: Sequence["Explanation"]) -> ImageRecord:
        """Write an image's files; what is to be remembered of it."""
        from onnxplain.runtime.figures.figure import fitted, resized
        from onnxplain.runtime.figures.overlay import draw_overlay
        from onnxplain.runtime.figures.scale import find_scale, shared_scales

        scales = shared_scales(items) if self._style.scale == "shared" else [find_scale(item) for item in items]
        predictions = [(index, share) for index, _, share in items[0].predictions]
        record = ImageRecord(len(self._images) + 1, str(image), self._true.get(image), predictions, [])
        for place, (item, scale) in enumerate(zip(items, scales, strict=True)):
            large = resized(item, fitted(item.image.size, *LARGE))
            small = resized(large, fitted(large.image.size, 1, SMALL))
            texts = about({item.method: [item]}, [item])
            if place == 0:
                self._save(large.image, record.file, texts)
            self._save(draw_overlay(large, self._style, scale), record.map_file(MAPS, place), texts)
            self._save(draw_overlay(small, self._style, scale), record.map_file(THUMBNAILS, place), texts)
            numbers = (item.target, item.score, item.probability, item.peak())
            record.maps.append(MapRecord(item.method, item.parameters, item.title, *numbers))
        return record

    def _save(self, image: "Image.Image", name: str, texts: Mapping[str, str]) -> None:
        from onnxplain.runtime.signature import image_options

        path = self._fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = {keyword: printable(text) for keyword, text in texts.items()}
        image.save(path, "JPEG", quality=QUALITY[path.parent.name], **image_options("jpg", texts))

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        """An OSError of the block names the report, as its files are elsewhere until it is finished."""
        try:
            yield
        except OSError as error:
            error.filename, error.filename2 = str(self._folder), None
            raise
