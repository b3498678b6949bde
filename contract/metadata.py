"""What an artifact says about itself: one JSON document in the file, written by export and read by the runtime."""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import OnnxplainError, one_line
from .outputs import OF_POOL, OUTPUTS, PASSES, POOL, Output

SCHEMA = 3  # 1 had no reductions, 2 no digest
METADATA_KEY = "onnxplain"  # the key of the JSON document: in ONNX of metadata_props, in TorchScript of the extra files

CROP_MODES = ("center", "squash", "border")
CROP_ROUNDINGS = ("half_even", "floor")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
ACTIVATIONS = ("softmax", "sigmoid")

# Far beyond any model's, and such that nothing overflows or fills the memory
SIDE = 8192  # of the model's input, in pixels
COUNT = 10_000  # of layers, heads, tokens before the patches
CROP_PCT = (0.1, 10)
MEAN, STD = (-10, 10), (1e-3, 1e3)

LATER = ("crop_rounding",)  # fields that a schema got later; older artifacts mean the default, as they were checked so

RULES = {"alpha": 1.0, "beta": 0.0, "gamma": 0.0}  # of LRP, unless export is asked for others


@dataclass(frozen=True)
class Layout:
    """Which token is what: `prefix_tokens` (CLS first), then `patch_grid` = (h, w) patches in row-major order.

    `readout` names the token rows the classification head reads; the readout vector e is uniform over them, unless
    an attention pool reads them and `row` holds how.
    """

    readout: tuple[int, ...]
    prefix_tokens: int
    patch_grid: tuple[int, int]
    row: NDArray[Any] | None = field(default=None, compare=False)

    @property
    def tokens(self) -> int:
        """N, the number of tokens in the attention matrices."""
        return self.prefix_tokens + self.patch_grid[0] * self.patch_grid[1]

    def readout_row(self) -> NDArray[np.float64]:
        """The readout vector e, float64 [N], which sums to 1 unless a pool's attention was weighted by something."""
        if self.row is not None:
            return self.row.astype(np.float64)
        row = np.zeros(self.tokens)
        row[list(self.readout)] = 1 / len(self.readout)
        return row

    def patches(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """The patch entries of a row over tokens [N], as a token map [h, w]."""
        return row[self.prefix_tokens :].reshape(self.patch_grid)


# A field's rule: what it must be, in words, and the check. Lists count as tuples: JSON knows no others.
Rule = tuple[str, Callable[[Any], bool]]


def is_int(value: Any, least: int, most: float = COUNT) -> bool:
    """Whether it is an integer within these bounds; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any, least: float = -sys.float_info.max, most: float = sys.float_info.max) -> bool:
    """Whether it is a finite number within these bounds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_tuple(value: Any, element: Callable[[Any], bool], length: int | None = None) -> bool:
    right_length = isinstance(value, tuple) and (len(value) == length if length else len(value) > 0)
    return right_length and all(element(item) for item in value)


def _is_list(value: Any, element: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(element(item) for item in value)


def _is_check(value: Any) -> bool:
    return isinstance(value, Mapping) and all(name in value and fits(value[name]) for name, fits in CHECK.items())


def _is_pair(value: Any) -> bool:
    return _is_tuple(value, lambda item: is_int(item, 1, SIDE), 2)


def _three_numbers(least: float, most: float) -> Rule:
    return (
        f"three numbers from {least:g} to {most:g}",
        lambda value: _is_tuple(value, lambda item: is_number(item, least, most), 3),
    )


# A line of the comparison with PyTorch
CHECK: dict[str, Callable[[Any], bool]] = {
    "output": lambda value: isinstance(value, str),
    "check": lambda value: isinstance(value, str),
    "value": is_number,
    "limit": is_number,
    "passed": lambda value: isinstance(value, bool),
}

PREPROCESSING_RULES: dict[str, Rule] = {
    "size": (f"[height, width], two integers from 1 to {SIDE}", _is_pair),
    "crop_pct": (f"a number from {CROP_PCT[0]} to {CROP_PCT[1]}", lambda value: is_number(value, *CROP_PCT)),
    "crop_mode": (f"one of {', '.join(CROP_MODES)}", lambda value: value in CROP_MODES),
    "crop_rounding": (f"one of {', '.join(CROP_ROUNDINGS)}", lambda value: value in CROP_ROUNDINGS),
    "interpolation": (f"one of {', '.join(INTERPOLATIONS)}", lambda value: value in INTERPOLATIONS),
    "mean": _three_numbers(*MEAN),
    "std": _three_numbers(*STD),
}

METADATA_RULES: dict[str, Rule] = {
    "model": ("a string", lambda value: isinstance(value, str)),
    "checkpoint": (
        "{source: string, sha256: string or null}",
        lambda value: (
            isinstance(value, Mapping)
            and set(value) == {"source", "sha256"}
            and isinstance(value["source"], str)
            and isinstance(value["sha256"], str | None)
        ),
    ),
    "preprocessing": ("a preprocessing object", lambda value: isinstance(value, Preprocessing)),
    "labels": (
        "a non-empty list of strings, one for each class",
        lambda value: _is_tuple(value, lambda item: isinstance(item, str)),
    ),
    "activation": (f"one of {', '.join(ACTIVATIONS)}", lambda value: value in ACTIVATIONS),
    "patch_grid": (f"[h, w], two integers from 1 to {SIDE}", _is_pair),
    "prefix_tokens": (f"an integer from 0 to {COUNT}", lambda value: is_int(value, 0)),
    "readout": (
        "a non-empty list of token rows (integers of at least 0) without repetition",
        lambda value: _is_tuple(value, lambda item: is_int(item, 0, math.inf)) and len(set(value)) == len(value),
    ),
    "layers": (f"an integer from 1 to {COUNT}", lambda value: is_int(value, 1)),
    "heads": (f"an integer from 1 to {COUNT}", lambda value: is_int(value, 1)),
    "pool_heads": (f"an integer from 0 to {COUNT}", lambda value: is_int(value, 0)),
    "passes": (
        f"a list of {', '.join(PASSES)} without repetition that contains attention",
        lambda value: (
            _is_tuple(value, lambda item: isinstance(item, str) and item in PASSES)
            and len(set(value)) == len(value)
            and "attention" in value
        ),
    ),
    "rules": (
        f"an object of three numbers, {', '.join(RULES)}",
        lambda value: isinstance(value, Mapping) and set(value) == set(RULES) and all(map(is_number, value.values())),
    ),
    "parity": (
        f"an object, whose checks are a list of objects with {', '.join(CHECK)}, and its notes a list of texts",
        lambda value: (
            isinstance(value, Mapping)
            and _is_list(value.get("checks", []), _is_check)
            and _is_list(value.get("notes", []), lambda item: isinstance(item, str))
        ),
    ),
    "resolution": (
        "an object of numbers from 0 to 1 by the names of methods",
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(name, str) and is_number(share, 0, 1) for name, share in value.items())
        ),
    ),
}


def _validate(record: Any, rules: Mapping[str, Rule]) -> None:
    """Turn the record's lists into tuples and check every field, naming the one that is wrong."""
    for name, (description, check) in rules.items():
        value = getattr(record, name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(record, name, value)  # the record is frozen, and not yet in anyone's hands
        if not check(value):
            given = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
            raise OnnxplainError(f"{type(record).__name__.lower()} field {name!r} must be {description}, got {given}")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input, in the terms of timm's evaluation transform.

    `size` is (height, width) in pixels; `crop_pct` is size / size resized to; `mean` and `std` are per RGB channel,
    for values in [0, 1]. `crop_rounding` says where a centred crop starts if an odd number of pixels is left over:
    "half_even" as in timm and torchvision, where half of what is cut off is rounded to even and half of a padding down;
    "floor" as in transformers, at floor((resized - size) / 2).

    Raises OnnxplainError, naming the field, if one is not valid.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    crop_rounding: str = "half_even"

    def __post_init__(self) -> None:
        _validate(self, PREPROCESSING_RULES)


@dataclass(frozen=True)
class Metadata:
    """The artifact's description; `to_json` and `from_json` are the two ends of the contract.

    `labels` has one entry per class; `readout`, `prefix_tokens` and `patch_grid` are those of `Layout`;
    `passes` lists the names in `PASSES` the artifact was exported with; `rules` are the parameters of LRP it was
    exported with: alpha and beta of relevance and pixel_relevance, gamma of pixel_attnlrp and pixel_cp_lrp; `parity` is
    the export's report; `pool_heads` is the number of heads of the attention pool on top, 0 where there is none;
    `resolution` is, by method, how far float32 is off in its maps, measured at export on random images: the greatest
    |float32 - float64| / |float64|, at most 1.

    Raises OnnxplainError, naming the field, if one is not valid.
    """

    model: str
    checkpoint: Mapping[str, str | None]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    activation: str
    patch_grid: tuple[int, int]
    prefix_tokens: int
    readout: tuple[int, ...]
    layers: int
    heads: int
    passes: tuple[str, ...]
    rules: Mapping[str, float] = field(default_factory=RULES.copy)
    parity: Mapping[str, Any] = field(default_factory=dict)
    pool_heads: int = 0
    resolution: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _validate(self, METADATA_RULES)
        size = self.preprocessing.size
        if any(patches > pixels for patches, pixels in zip(self.patch_grid, size, strict=True)):
            raise OnnxplainError(
                f"metadata field 'patch_grid' must be at most the size in pixels, {size[0]} x {size[1]}, "
                f"got {self.patch_grid[0]} x {self.patch_grid[1]}"
            )
        if max(self.readout) >= self.layout.tokens:
            raise OnnxplainError(
                f"metadata field 'readout' must hold token rows below {self.layout.tokens} "
                f"({self.prefix_tokens} prefix tokens and a {self.patch_grid[0]} x {self.patch_grid[1]} grid), "
                f"got {max(self.readout)}"
            )

    @property
    def layout(self) -> Layout:
        """Which token is what."""
        return Layout(self.readout, self.prefix_tokens, self.patch_grid)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the graph offers beside the logits: the raw outputs of the passes and the reductions they allow."""
        kinds = (False, True) if self.pool_heads else (False,)
        return tuple(item for item in OUTPUTS.values() if set(item.passes) <= set(self.passes) and item.pool in kinds)

    def with_pool(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names of these outputs and of those of the attention pool that belong to them, if there is one."""
        names = tuple(names)
        return (*names, *(POOL + name for name in names if self.pool_heads and POOL + name in OUTPUTS))

    def shape(self, output: Output) -> tuple[int, ...]:
        """The lengths of an output's axes after those of batch and targets."""
        (height, width), (rows, columns) = self.preprocessing.size, self.patch_grid
        lengths = {
            "layers": self.layers,
            "heads": self.heads,
            "pool_heads": self.pool_heads,
            "queries": 1,
            "tokens": self.layout.tokens,
            "channels": 3,
            "height": height,
            "width": width,
            "rows": rows,
            "columns": columns,
        }
        axes = output.axes
        if self.pool_heads and output is PASSES["layer_gradient"]:
            axes = ("layers", *OF_POOL[axes])
        return tuple(lengths[axis] for axis in axes)

    def to_json(self) -> str:
        """The JSON document; raises ValueError if `parity` holds a NaN or an infinity, which JSON cannot say."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read the JSON document back.

        Raises OnnxplainError ("not an onnxplain artifact: …") if it is not JSON, of another schema, or if a field
        is missing or not valid. Unknown fields are ignored, so that a schema can grow, but those of preprocessing are
        refused: without them the model would see something else.
        """
        try:
            document = _object(json.loads(text), "metadata")
            if document.get("schema") != SCHEMA:
                raise OnnxplainError(
                    f"metadata schema is {document.get('schema')!r}, this runtime reads {SCHEMA}; "
                    "export it again with this version"
                )
            values = _select(cls, document)
            preprocessing = _object(values["preprocessing"], "preprocessing")
            unknown = preprocessing.keys() - {item.name for item in fields(Preprocessing)}
            if unknown:
                raise OnnxplainError(
                    f"this version does not know the preprocessing field {min(unknown)!r}; open it with the version "
                    "that wrote it"
                )
            values["preprocessing"] = Preprocessing(**_select(Preprocessing, preprocessing))
            return cls(**values)
        except OnnxplainError as error:
            raise OnnxplainError(f"not an onnxplain artifact: {error}") from None
        except (ValueError, RecursionError) as error:  # the latter of brackets in brackets without end
            raise OnnxplainError(f"not an onnxplain artifact: metadata is not JSON ({one_line(error)})") from None


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OnnxplainError(f"{name} must be a JSON object, got {type(value).__name__}")
    return value


def _select(record: type[Metadata] | type[Preprocessing], document: dict[str, Any]) -> dict[str, Any]:
    """The record's own fields of a JSON object; all but `LATER` must be there: a guessed default would be silent."""
    names = [item.name for item in fields(record) if item.name in document or item.name not in LATER]
    missing = [name for name in names if name not in document]
    if missing:
        raise OnnxplainError(f"metadata field {', '.join(map(repr, missing))} of {record.__name__} is missing")
    return {name: document[name] for name in names}
