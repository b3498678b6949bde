"""What an artifact says about itself: one JSON document in the file, written by export and read by the runtime."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .errors import OnnxplainError, one_line
from .layout import Layout
from .lrp_rules import EARLIER_RULES, RULES
from .outputs import ALWAYS, FLAGS, INPUTS, OF_POOL, OUTPUTS, PASSES, POOL, Output, heatmap_output, output_of
from .precisions import FLOAT32, PRECISIONS
from .preprocessing import Preprocessing
from .validation import COUNT, SIDE, Rule, is_int, is_list, is_number, is_pair, is_tuple, validate

SCHEMA = 4  # 1 had no reductions, 2 no digest, 3 neither class_index nor widths
METADATA_KEY = "onnxplain"  # the key of the JSON document: in ONNX of metadata_props, in TorchScript of the extra files

ACTIVATIONS = ("softmax", "sigmoid")
WIDTH = 1_000_000  # numbers of a token, far beyond any model's

LATER = ("crop_rounding", "heatmaps", "flags", "input", "precision")
"""Fields that a schema got later; older artifacts mean the default, as they were checked so."""

IMAGE_SIZE = ("height", "width")
"""Names for the lengths of images, which any size fits."""


def _is_check(value: Any) -> bool:
    return isinstance(value, Mapping) and all(name in value and fits(value[name]) for name, fits in CHECK.items())


# A line of the comparison with PyTorch
CHECK: dict[str, Callable[[Any], bool]] = {
    "output": lambda value: isinstance(value, str),
    "check": lambda value: isinstance(value, str),
    "value": is_number,
    "limit": is_number,
    "passed": lambda value: isinstance(value, bool),
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
        lambda value: is_tuple(value, lambda item: isinstance(item, str)),
    ),
    "activation": (f"one of {', '.join(ACTIVATIONS)}", lambda value: value in ACTIVATIONS),
    "patch_grid": (f"[h, w], two integers from 1 to {SIDE}", is_pair),
    "prefix_tokens": (f"an integer from 0 to {COUNT}", lambda value: is_int(value, 0)),
    "readout": (
        "a non-empty list of token rows (integers of at least 0) without repetition",
        lambda value: is_tuple(value, lambda item: is_int(item, 0, math.inf)) and len(set(value)) == len(value),
    ),
    "layers": (f"an integer from 1 to {COUNT}", lambda value: is_int(value, 1)),
    "heads": (f"an integer from 1 to {COUNT}", lambda value: is_int(value, 1)),
    "token_width": (f"an integer from 1 to {WIDTH}", lambda value: is_int(value, 1, WIDTH)),
    "hidden_width": (f"an integer from 1 to {WIDTH}", lambda value: is_int(value, 1, WIDTH)),
    "pool_heads": (f"an integer from 0 to {COUNT}", lambda value: is_int(value, 0)),
    "passes": (
        f"a list of {', '.join(PASSES)} without repetition that contains attention",
        lambda value: (
            is_tuple(value, lambda item: isinstance(item, str) and item in PASSES)
            and len(set(value)) == len(value)
            and "attention" in value
        ),
    ),
    "rules": (
        f"an object of numbers, {', '.join(RULES)} or {', '.join(EARLIER_RULES)}",
        lambda value: (
            isinstance(value, Mapping)
            and set(value) in (set(RULES), set(EARLIER_RULES))
            and all(map(is_number, value.values()))
        ),
    ),
    "parity": (
        f"an object, whose checks are a list of objects with {', '.join(CHECK)}, and its notes a list of texts",
        lambda value: (
            isinstance(value, Mapping)
            and is_list(value.get("checks", []), _is_check)
            and is_list(value.get("notes", []), lambda item: isinstance(item, str))
        ),
    ),
    "heatmaps": (
        "an object of parameters, objects of texts and finite numbers themselves, by the names of methods",
        lambda value: (
            isinstance(value, Mapping)
            and all(
                isinstance(name, str)
                and isinstance(given, Mapping)
                and all(isinstance(each, str) or is_number(each) for each in given.values())
                for name, given in value.items()
            )
        ),
    ),
    "flags": (f"one of {', '.join(FLAGS)}", lambda value: value in FLAGS),
    "input": (f"one of {', '.join(INPUTS)}", lambda value: value in INPUTS),
    "precision": (f"one of {', '.join(PRECISIONS)}", lambda value: isinstance(value, str) and value in PRECISIONS),
    "resolution": (
        "an object of numbers from 0 to 1 by the names of methods",
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(name, str) and is_number(share, 0, 1) for name, share in value.items())
        ),
    ),
}


@dataclass(frozen=True)
class Metadata:
    """The artifact's description; `to_json` and `from_json` are the two ends of the contract.

    Attributes:
        model: Its name.
        checkpoint: "source", where the weights come from, and "sha256" of their file (of the demo model, of the
            weights themselves), None where there is none.
        preprocessing: How an image becomes `pixels`.
        labels: One for each class.
        activation: What makes probabilities of the logits, "softmax" or "sigmoid".
        patch_grid: As of `Layout`.
        prefix_tokens: As of `Layout`.
        readout: As of `Layout`.
        layers: How many layers the outputs of attention have.
        heads: How many heads each of them has.
        token_width: Numbers of one token between the blocks.
        hidden_width: Numbers of one token where it is widest, in the hidden layer of a block.
        passes: The names in PASSES that the artifact was exported with.
        rules: The constants of LRP: alpha and beta of relevance and pixel_relevance; gamma_conv, gamma_linear and
            gamma_attention of pixel_attnlrp and pixel_cp_lrp, or in earlier artifacts gamma, of all layers.
        parity: The report of the comparison with the model.
        pool_heads: The heads of the attention pool on top, 0 where there is none.
        resolution: By method, how far the file is off in its maps, measured at export on random images: the greatest
            `|file - float64| / |float64|`, at most 1.
        heatmaps: Of a plain artifact, by the names of the methods whose maps are its outputs, their arguments, which
            are fixed in the graph; empty for a full artifact.
        flags: One of FLAGS.
        input: One of INPUTS.
        precision: One of PRECISIONS.

    Raises:
        OnnxplainError: A field is not valid; the message names it.
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
    token_width: int
    hidden_width: int
    passes: tuple[str, ...]
    rules: Mapping[str, float] = field(default_factory=RULES.copy)
    parity: Mapping[str, Any] = field(default_factory=dict)
    pool_heads: int = 0
    resolution: Mapping[str, float] = field(default_factory=dict)
    heatmaps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    flags: str = "optional"
    input: str = "pixels"
    precision: str = FLOAT32

    def __post_init__(self) -> None:
        validate(self, METADATA_RULES)
        size = self.preprocessing.size
        if any(patches > pixels for patches, pixels in zip(self.patch_grid, size, strict=True)):
            raise OnnxplainError(
                f"metadata field 'patch_grid' must be at most the size in pixels, {size[0]} x {size[1]}, "
                f"got {self.patch_grid[0]} x {self.patch_grid[1]}"
            )
        if self.input != "pixels" and not self.heatmaps:
            raise OnnxplainError(f"metadata field 'input' must be pixels where there are no heatmaps, got {self.input}")
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
        """What the graph offers beside those in ALWAYS.

        The heatmaps of a plain artifact; of a full one the raw outputs of the passes and the reductions they allow.
        """
        if self.heatmaps:
            return tuple(map(heatmap_output, self.heatmaps))
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
            "token_width": self.token_width,
        }
        axes = output.axes
        if self.pool_heads and output is PASSES["layer_gradient"]:
            axes = ("layers", *OF_POOL[axes])
        return tuple(lengths[axis] for axis in axes)

    def input_shape(self, batch: int | str) -> tuple[int | str, ...]:
        """The whole shape of the graph's `input`, with names for the lengths of an image of any size."""
        return (batch, 3, *self.preprocessing.size) if self.input == "pixels" else (batch, *IMAGE_SIZE, 3)

    def full_shape(self, name: str, batch: int | str, targets: int | str) -> tuple[int | str, ...]:
        """The whole shape of any output of the graph, with names for the lengths of an image of any size.

        Args:
            name: Of the output, those in ALWAYS included.
            batch: The number of images, or a name for it.
            targets: The number of targets, or a name for it.
        """
        if name in ALWAYS:
            lengths: dict[str, int | str] = {"batch": batch, "targets": targets, "classes": len(self.labels)}
            return tuple(lengths[axis] for axis in ALWAYS[name])
        item = output_of(name)
        if self.input == "image":
            return (batch, targets, *IMAGE_SIZE)
        return (batch, *((targets,) if item.per_target else ()), *self.shape(item))

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
            schema = document.get("schema")
            if schema != SCHEMA:
                newer = is_int(schema, SCHEMA + 1, math.inf)
                advice = "open it with the version that wrote it" if newer else "export it again with this version"
                raise OnnxplainError(f"metadata schema is {schema!r}, this version reads {SCHEMA}; {advice}")
            values = _select(cls, document)
            preprocessing = _object(values["preprocessing"], "preprocessing")
            unknown = preprocessing.keys() - {item.name for item in fields(Preprocessing)}
            if unknown:
                raise OnnxplainError(
                    f"this version does not know the preprocessing field {min(unknown)!r}; open it with the version "
                    "that wrote it"
                )
            values["preprocessing"] = Preprocessing(**_select(Preprocessing, preprocessing))
            metadata = cls(**values)
            metadata.to_json()  # Python's reader takes NaN and infinities, which no other takes, nor our own writer
            return metadata
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
