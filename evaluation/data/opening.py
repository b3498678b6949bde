"""From what the user names to a data set."""

from collections.abc import Sequence
from pathlib import Path

from onnxplain.contract.errors import OnnxplainError, one_line

from .class_folders import open_class_folders
from .coco import open_coco
from .data_set import DataSet
from .demo_scenes import open_demo
from .table_file import open_table

DEMO = "demo"
LISTS = {".csv": open_table, ".json": open_coco}
"""By the end of a file's name what reads it."""
IN_FOLDERS = "annotations"
"""How such a file in a folder with images is called, without that end."""


def open_data(text: str, labels: Sequence[str], limit: int | None = None) -> DataSet:
    """The data set that the user names. Images and masks are not opened.

    Args:
        text: "demo" for the built-in scenes; a folder with a folder of images for each class, or with a file
            annotations.csv or annotations.json; or such a file, however it is called. docs/evaluation.md describes
            them.
        labels: Of the artifact's classes.
        limit: The most samples, taken evenly from all of them; by default all, of the demo's scenes 500.

    Returns:
        The samples, and in one line each what was skipped.

    Raises:
        OnnxplainError: If there is no such data, or it cannot be used as a whole. What is wrong with one image only is
            raised when it is read.
    """
    if limit is not None and limit < 1:
        raise OnnxplainError(f"`limit` is a number of images from 1, got {limit}")
    if text == DEMO:
        return open_demo(labels, limit)
    path = Path(text)
    try:
        if path.is_dir():
            lists = [file for suffix in LISTS if (file := path / f"{IN_FOLDERS}{suffix}").is_file()]
            if not lists:
                return open_class_folders(path, labels, limit)
            if len(lists) > 1:
                raise OnnxplainError(
                    f"{path} has {' and '.join(file.name for file in lists)}; give the one to use itself"
                )
            path = lists[0]
        if path.suffix.lower() in LISTS:
            return LISTS[path.suffix.lower()](path, labels, limit)
    except OSError as error:  # a folder that may not be entered
        raise OnnxplainError(f"{text} cannot be read: {error.strerror or one_line(error)}") from None
    raise OnnxplainError(
        f"{text!r} is no data to evaluate on; give a folder with a folder of images for each class, a file of the kind "
        f"{' or '.join(LISTS)}, or {DEMO}"
    )
