"""Images listed in a JSON file of COCO, with boxes and segments."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError, one_line

from ..samples import IGNORED, OBJECT, Boxes, Sample
from .classes import find_classes
from .data_set import DataSet, first_few, of_samples, spread
from .listed_files import find_files, read_text
from .masks import check_size
from .shapes import Inside, polygon, runs

Entry = Mapping[str, Any]
"""Of a list in the file."""

BOX = "left", "top", "width", "height"


@dataclass(frozen=True)
class CocoRegion:
    """The objects of one class in one image.

    Attributes:
        name: The image's, for errors.
        size: (height, width) of the image by the file.
        annotations: As the file has them. Crowds are ignored where there is no single object.
    """

    name: str
    size: tuple[int, int]
    annotations: tuple[Entry, ...]

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Region.mask`."""
        check_size(f"of {self.name}", self.size, size)
        mask = np.zeros(size, np.uint8)
        for annotation in sorted(self.annotations, key=lambda each: not each.get("iscrowd")):
            try:
                inside = _drawn(annotation, size)
            except (OnnxplainError, TypeError, ValueError, KeyError, IndexError) as error:
                number = annotation.get("id", "without an id")
                raise OnnxplainError(f"annotation {number} of {self.name} cannot be drawn: {one_line(error)}") from None
            mask[inside] = IGNORED if annotation.get("iscrowd") else OBJECT
        return mask


def _drawn(annotation: Entry, size: tuple[int, int]) -> Inside:
    """An annotation's segment; its box if it has none."""
    segment = annotation.get("segmentation")
    if isinstance(segment, Mapping):
        if tuple(segment["size"]) != size:
            raise OnnxplainError(f"its size is {list(segment['size'])}, and the image's {list(size)}")
        return runs(segment["counts"], size)
    if segment:
        return reduce(np.logical_or, (polygon(points, size) for points in segment))
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != len(BOX):
        raise OnnxplainError(f"it has no segmentation, and its bbox must be {', '.join(BOX)}, got {one_line(box)}")
    left, top, width, height = box
    return Boxes(((left, top, left + width, top + height),)).mask(size).astype(bool)


def open_coco(path: Path, labels: Sequence[str], limit: int | None = None) -> DataSet:
    """The images of a JSON file of COCO that show classes of the artifact.

    Args:
        path: The JSON file. The paths of images are from its folder; from "images" in that folder or beside it; or, as
            in COCO itself, from such as "val2017" there for a file "instances_val2017.json".
        labels: Of the artifact's classes. Categories are found by their names.
        limit: The most images.

    Raises:
        OnnxplainError: If it is no such file, or none of its images or categories can be used.
    """
    images, annotations, categories = _read(path)
    classes, warnings = find_classes(categories.values(), labels, path)
    shown: dict[Any, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for annotation in annotations:
        category = categories.get(annotation["category_id"])
        if category in classes:
            shown[annotation["image_id"]][classes[category]].append(annotation)
    listed = {_name(image): image for image in images if image["id"] in shown}
    if len(listed) < len(images):
        warnings.append(f"{len(images) - len(listed)} of {len(images)} images show no class of the artifact: skipped")
    split = path.stem.split("_")[-1]
    folders = [path.parent, *(root / name for root in (path.parent, path.parent.parent) for name in ("images", split))]
    files, missing = find_files(path, list(listed), folders)
    samples = []
    for name in spread(list(files), limit):
        image = listed[name]
        size = image["height"], image["width"]
        regions = {index: CocoRegion(name, size, tuple(items)) for index, items in shown[image["id"]].items()}
        samples.append(Sample(name, files[name], tuple(sorted(regions)), regions))
    return of_samples(str(path), samples, [*warnings, *missing])


NEEDED: Mapping[str, Mapping[str, Any]] = {
    "images": {"id": (int, str), "file_name": str, "height": int, "width": int},
    "annotations": {"image_id": (int, str), "category_id": (int, str)},
    "categories": {"id": (int, str), "name": str},
}
"""What is read of each entry of the lists in a file, and of what type it is."""


def _read(path: Path) -> tuple[list[Entry], list[Entry], dict[Any, str]]:
    """The images, the annotations, and by their IDs the names of categories."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OnnxplainError(f"{path} is not valid JSON: {one_line(error)}") from None
    images, annotations, categories = (_list(path, content, key) for key in NEEDED)
    twice = [name for name, count in Counter(map(_name, images)).items() if count > 1]
    if twice:
        raise OnnxplainError(f"{path} lists images several times: {first_few(twice)}; give each one entry")
    return images, annotations, {category["id"]: category["name"] for category in categories}


def _list(path: Path, content: Any, key: str) -> list[Entry]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise OnnxplainError(f"{path} is no file of COCO: it has no list of {key}")
    for place, entry in enumerate(entries):
        for field, kind in NEEDED[key].items():
            if not isinstance(entry, dict) or not isinstance(entry.get(field), kind):
                raise OnnxplainError(f"{path}: entry {place} of {key} has no {field}, or not one of the right type")
    return entries


def _name(image: Entry) -> str:
    return Path(image["file_name"]).as_posix()
