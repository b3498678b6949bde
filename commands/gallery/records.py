"""What the page and the CSV file know of each image and each map: small records, as there may be many."""

from collections.abc import Mapping
from typing import Any, NamedTuple

THUMBNAILS, MAPS, IMAGES = "thumbnails", "maps", "images"
"""The folders of the report that hold images: maps over the image, small and large, and the image without."""


class MapRecord(NamedTuple):
    """One map of an image.

    Attributes:
        method: The method's name.
        parameters: Of the method.
        title: The method with the parameters that are not its defaults.
        target: The class index.
        score: Its logit.
        probability: What the model's activation makes of it.
        peak: (y, x) of the pixel where the map is highest; None where it is the same everywhere or nowhere above zero.
    """

    method: str
    parameters: Mapping[str, Any]
    title: str
    target: int
    score: float
    probability: float
    peak: tuple[int, int] | None


class ImageRecord(NamedTuple):
    """One image.

    Attributes:
        number: From 1 on; its files are named by it.
        name: As the user gave it.
        true: The class that it shows; None if that is not known.
        predictions: (index, probability) of the top classes, best first.
        maps: Its maps; files are named by their places here, from 1 on.
    """

    number: int
    name: str
    true: int | None
    predictions: list[tuple[int, float]]
    maps: list[MapRecord]

    @property
    def right(self) -> bool | None:
        """Whether the model's top class is the true one; None if that is not known."""
        return None if self.true is None else self.predictions[0][0] == self.true

    @property
    def file(self) -> str:
        """The image's file in the report."""
        return f"{IMAGES}/{self.number:06}.jpg"

    def map_file(self, folder: str, place: int) -> str:
        """The file of a map in the report. folder: `THUMBNAILS` or `MAPS`. place: From 0 on."""
        return f"{folder}/{self.number:06}-{place + 1}.jpg"
