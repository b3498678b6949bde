"""From what the user names to a data set."""

from collections.abc import Sequence

from onnxplain.contract.errors import OnnxplainError

from .data_set import DataSet
from .demo_scenes import open_demo


def open_data(text: str, labels: Sequence[str], limit: int | None = None) -> DataSet:
    """The data set that the user names.

    Args:
        text: "demo" for the built-in scenes.
        labels: Of the artifact's classes.
        limit: The most samples; by default all, of the demo's scenes 500.

    Raises:
        OnnxplainError: If there is no such data, or it cannot be used as a whole. What is wrong with one image only is
            raised when it is read.
    """
    if limit is not None and limit < 1:
        raise OnnxplainError(f"`limit` is a number of images from 1, got {limit}")
    if text == "demo":
        return open_demo(labels, limit)
    raise OnnxplainError(f"there is no data {text!r}")
