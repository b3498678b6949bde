"""The rows that are written: one for each image, with its explanation or with what is wrong with it."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.runtime.explanation import Explanation
from onnxplain.runtime.images.loading import UNNAMED
from onnxplain.runtime.outcome import Outcome
from onnxplain.runtime.summary import about_image, about_map

from .items import valid_text
from .settings import Settings

NUMBER = "number"
"""The column of journals that says which of the shard's images a row is of."""
DESCRIPTION = b"onnxplain"
"""The key of the schema's metadata under which a JSON document says what the rows are."""
BOX = pa.struct([(side, pa.int32()) for side in ("left", "top", "right", "bottom")])
POINT = pa.struct([("x", pa.int32()), ("y", pa.int32())])
PREDICTION = pa.struct([("index", pa.int32()), ("label", pa.string()), ("probability", pa.float32())])
QUALITY = 85  # of thumbnails, as JPEG


class ProcessEndedError(OnnxplainError):
    """Processes ended, twice, while they explained an image."""


KINDS = {
    "ImageMissingError": "missing",
    "ImageFormatError": "not an image",
    "ImageSizeError": "too large",
    "ImageError": "damaged",
    "RunError": "run failed",
    "ProcessEndedError": "process ended",
}
"""What error_kind says, by the error's class."""


@dataclass(frozen=True)
class Row:
    """What came of one image.

    Attributes:
        number: Which of the shard's images it is.
        key: See Item.
        digest: The SHA-256 of its file, in hexadecimal; None if that could not be read.
        outcome: The explanation, or the error.
    """

    number: int
    key: str
    digest: str | None
    outcome: Outcome[Explanation]


@dataclass(frozen=True)
class _Column:
    """One column.

    Attributes:
        name: Its name.
        type: Of its values.
        value: What it holds of an image that was explained.
    """

    name: str
    type: pa.DataType
    value: Callable[["_Said"], Any]


class _Said:
    """What is said of one explanation."""

    def __init__(self, item: Explanation) -> None:
        self.item = item
        self.image, self.map = about_image(item), about_map(item)
        # Maps are told to float16 as shares of their largest value: those of gradients would be too small for it
        self.scale = float(max(np.abs(item.tokens).max(), np.abs(item.input_heatmap).max())) or 1.0

    def scaled(self, values: NDArray[np.float32]) -> NDArray[np.float16]:
        """As shares of the largest value, in the order of rows."""
        return (values / np.float32(self.scale)).astype(np.float16).ravel()


class RowFormat:
    """What rows of an artifact look like.

    Attributes:
        schema: Of the files.
        journal_schema: The same after the column NUMBER.
    """

    def __init__(self, metadata: Metadata, settings: Settings) -> None:
        h, w = metadata.patch_grid
        self._settings = settings
        self._maps = {"tokens": h * w}
        if settings.maps:
            height, width = metadata.preprocessing.size
            self._maps["input_heatmap"] = height * width
        kinds = {
            name: pa.list_(pa.field("element", pa.float16(), nullable=False), size) for name, size in self._maps.items()
        }
        self._columns = [
            _Column("width", pa.int32(), lambda said: said.image["width"]),
            _Column("height", pa.int32(), lambda said: said.image["height"]),
            _Column("seen", BOX, lambda said: _box(said.image["seen"])),
            _Column("predictions", pa.list_(PREDICTION), lambda said: said.image["predictions"]),
            _Column("target", pa.int32(), lambda said: said.item.target),
            _Column("label", pa.string(), lambda said: said.item.label),
            _Column("score", pa.float32(), lambda said: said.item.score),
            _Column("probability", pa.float32(), lambda said: said.item.probability),
            _Column("maximum", POINT, lambda said: _point(said.map["maximum"])),
            _Column("upper_fifth", BOX, lambda said: _box(said.map["upper_fifth"])),
            _Column("scale", pa.float32(), lambda said: said.scale),
        ]
        fields = [("key", pa.string()), ("digest", pa.string())]
        fields += [(column.name, column.type) for column in self._columns]
        fields += list(kinds.items())
        if settings.thumbnails is not None:
            fields.append(("thumbnail", pa.binary()))
        fields += [("error", pa.string()), ("error_kind", pa.string())]
        self.schema = pa.schema(fields, {DESCRIPTION: json.dumps(describe(metadata, settings)).encode()})
        self.journal_schema = pa.schema([(NUMBER, pa.int32()), *fields])

    def encode(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """The rows in `journal_schema`."""
        said = [row.outcome.then(_Said) for row in rows]
        right = [each.value if each.error is None else None for each in said]
        errors = [each.error for each in said]
        arrays: dict[str, pa.Array | list[Any]] = {
            NUMBER: [row.number for row in rows],
            "key": [row.key for row in rows],
            "digest": [row.digest for row in rows],
            "error": list(map(_message, errors, rows)),
            "error_kind": [None if error is None else KINDS.get(type(error).__name__, "other") for error in errors],
        }
        for column in self._columns:
            arrays[column.name] = [None if each is None else column.value(each) for each in right]
        absent = pa.array([each is None for each in right])
        for name, size in self._maps.items():
            none = np.zeros(size, np.float16)
            maps = [none if each is None else each.scaled(getattr(each.item, name)) for each in right]
            kind = self.schema.field(name).type
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(maps)), type=kind, mask=absent)
        if (side := self._settings.thumbnails) is not None:
            arrays["thumbnail"] = [None if each is None else _thumbnail(each.item, side) for each in right]
        fields = self.journal_schema
        return pa.RecordBatch.from_arrays(
            [
                arrays[field.name]
                if isinstance(arrays[field.name], pa.Array)
                else pa.array(arrays[field.name], field.type)
                for field in fields
            ],
            schema=fields,
        )


def describe(metadata: Metadata, settings: Settings) -> dict[str, Any]:
    """What all rows of a file have in common, as JSON can hold it."""
    return {
        **settings.kept(),
        "model": metadata.model,
        "precision": metadata.precision,
        "patch_grid": list(metadata.patch_grid),
        "input_size": list(metadata.preprocessing.size),
    }


def _message(error: OnnxplainError | None, row: Row) -> str | None:
    return None if error is None else valid_text(str(error).replace(UNNAMED, row.key, 1))


def _box(sides: Sequence[int] | None) -> dict[str, int] | None:
    return None if sides is None else dict(zip(("left", "top", "right", "bottom"), sides, strict=True))


def _point(place: Sequence[int] | None) -> dict[str, int] | None:
    return None if place is None else {"x": place[0], "y": place[1]}


def _thumbnail(item: Explanation, side: int) -> bytes:
    file = io.BytesIO()
    item.overlay(max_size=side).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
