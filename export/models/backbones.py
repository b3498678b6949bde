"""How a name becomes a model with weights, labels and preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from timm.data import ImageNetInfo
from torch import nn

from onnxplain.contract import OnnxplainError, Preprocessing
from onnxplain.contract.errors import one_line
from onnxplain.contract.names import no_such, or_rather
from onnxplain.contract.validation import SIDE
from onnxplain.models import DEMO, IMAGENET, MODELS, WITH_TEXT, Row, find_row

from .checkpoints import WEIGHTS, is_transformers, weights_in
from .from_demo import load as load_demo
from .heads import POOLINGS, Head, Pooled, read_head
from .hub import Report, fetch, is_repository
from .prompts import check_prompts, zero_shot
from .sources import Loaded, Request, same_random_numbers
from .weights import check_model

HOW_TO_GET_CLASSES = (
    "`head`, a file such as probe writes, or `prompts` if it has a text encoder, or `num_classes` and a `checkpoint` "
    "that has a head"
)
MODULES = {"hf": "from_transformers"}
"""Where the module that loads a library's models is not named from_<library>."""
FIELDS = ("mean", "std", "crop_pct", "crop_mode", "interpolation", "crop_rounding")
"""Of Preprocessing, which can be given in place of a model's own; its size is image_size."""


@dataclass(frozen=True)
class Backbone:
    """A classifier and what the artifact has to say about it.

    model: maps float32 [batch, 3, H, W] to logits [batch, classes]; in evaluation mode.
    labels: one per class. activation: "softmax", or "sigmoid" where several classes can be true at once.
    source: where the weights come from. sha256: of the checkpoint file, None where there is none.
    has_classes: False where the outputs are features, of which no class map can be made, only maps of attention.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    activation: str
    source: str
    sha256: str | None
    has_classes: bool = True


@dataclass(frozen=True)
class Features:
    """A model without a head.

    model: maps float32 [batch, 3, H, W] to features [batch, width]; in evaluation mode. pooling: what these are of the
    model, a key of POOLINGS.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    pooling: str


def load_backbone(
    name: str,
    checkpoint: str | Path | None = None,
    random_init: bool = False,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
    head: str | Path | Head | None = None,
    head_pooling: str | None = None,
    prompts: Sequence[str] | None = None,
    templates: Sequence[str] = (),
    progress: Report = lambda stage: None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Backbone:
    """Build a model by name, with its published weights unless told otherwise.

    name: a key of MODELS, "demo", or "<library>/<name>" with a key of SOURCES.
    checkpoint: weights to load in place of the published ones: .safetensors or .pth (read without running pickles), or
        a folder or hub repository that holds them.
    random_init: random weights, the same each time, for trying things out.
    num_classes, image_size (pixels, one number or (height, width)), labels: in place of the model's own.
    head: a file that read_head reads, in place of the model's own. head_pooling: what it reads of the model, a key of
        POOLINGS, in place of what the file says.
    prompts: classes in words, for models with a text encoder: the logits are the zero-shot logits that the model's own
        library gives, and the labels are these words unless ``labels`` are given. templates: sentences such as "a photo
        of a {}." that each of them is put into, of whose embeddings the class is the mean.
    progress: called with a description of each stage as it begins, and with how far downloads are.
    preprocessing: of pictures, in place of the model's own: any of mean, std, crop_pct, crop_mode, interpolation and
        crop_rounding, as in Preprocessing. A folder of transformers without a file that describes its image processor
        needs mean and std; what else is not given has Preprocessing's defaults then.
    A model that has no head gives features, and an artifact that shows attention only.
    Raises OnnxplainError if the name is unknown, the weights cannot be had or do not fit, or the counts disagree.
    """
    row = find_row(name)
    if num_classes is not None and num_classes < 1:
        raise OnnxplainError(f"`num_classes` must be at least 1, got {num_classes}")
    if head is not None and num_classes is not None:
        raise OnnxplainError("`head` has its number of classes; leave out `num_classes`")
    if head_pooling is not None and head is None:
        raise OnnxplainError("`head_pooling` says what `head` reads; give `head` too")
    if head_pooling is not None and head_pooling not in POOLINGS:
        raise OnnxplainError(
            f"`head_pooling` says what `head` reads: one of {', '.join(POOLINGS)}, got {head_pooling!r}"
            + or_rather(head_pooling, POOLINGS)
        )
    check_prompts(prompts, templates)
    if prompts is not None:
        if head is not None or num_classes is not None:
            raise OnnxplainError("`prompts` make a head of one class each; leave out `head` and `num_classes`")
        if not row.open_clip and name.partition("/")[0] not in WITH_TEXT:
            known = [row.name for row in MODELS.values() if row.open_clip] + [f"{item}/<name>" for item in WITH_TEXT]
            raise OnnxplainError(
                f"`prompts` need a model with a text encoder, not {name}; known are {', '.join(known)}"
            )
    given = read_head(head) if isinstance(head, str | Path) else head
    makes_head = given is None and random_init and row.pooling != "own"  # in place of one published apart
    adds_head = makes_head or given is not None or prompts is not None
    own_classes = None if adds_head else num_classes
    request = Request(
        None, random_init, own_classes, _size(image_size), adds_head, row.drop, prompts is not None, progress,
        preprocessing or {},
    )  # fmt: skip
    loaded = _load(row, checkpoint, request)
    if makes_head:
        given = _random_head(_width(loaded, row.pooling), num_classes or row.classes)
    if given is not None:
        loaded = _with_head(loaded, given, head_pooling or given.pooling or row.pooling)
    if prompts is not None:
        loaded = zero_shot(loaded, prompts, templates or ("{}",), progress)
    classes = _labels(loaded, labels or (given.labels if given is not None else None), name in MODELS)
    activation = loaded.activation if given is None else given.activation
    return Backbone(
        name=name.rstrip("/").rpartition("/")[2],
        model=loaded.model.eval(),
        preprocessing=loaded.preprocessing,
        labels=classes,
        activation="sigmoid" if len(classes) == 1 else activation,  # of one class the softmax is always 1
        source=loaded.source,
        sha256=loaded.sha256,
        has_classes=loaded.classes > 0,
    )


def load_features(
    name: str,
    checkpoint: str | Path | None = None,
    random_init: bool = False,
    image_size: int | tuple[int, int] | None = None,
    pooling: str | None = None,
    progress: Report = lambda stage: None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Features:
    """What load_backbone would put a head on, with the same arguments.

    pooling: a key of POOLINGS, by default what a head reads of this model. progress: called with how far downloads are.
    Raises OnnxplainError as load_backbone does.
    """
    row = find_row(name)
    if pooling is not None and pooling not in POOLINGS:
        raise OnnxplainError(f"{no_such('pooling', pooling, POOLINGS)} (`head_pooling`)")
    request = Request(None, random_init, None, _size(image_size), True, row.drop, False, progress, preprocessing or {})
    loaded = _load(row, checkpoint, request)
    check_model(f"{row.name} ({loaded.source})", loaded.model)
    chosen = pooling or row.pooling
    _width(loaded, chosen)
    return Features(name.rstrip("/").rpartition("/")[2], _pooled(loaded, chosen).eval(), loaded.preprocessing, chosen)


def _load(row: Row, checkpoint: str | Path | None, request: Request) -> Loaded:
    """The model that the name and the options of load_backbone stand for; the request is without the checkpoint."""
    given = request.preprocessing
    if checkpoint is not None and request.random_init:
        raise OnnxplainError("`checkpoint` and `random_init` exclude each other; give one of them")
    for field in given:
        if field not in FIELDS:
            hint = "; image_size is its size" if field == "size" else ""
            raise OnnxplainError(no_such("field of preprocessing", field, FIELDS) + hint)
    size = request.image_size
    if row.name == DEMO:
        if (
            request.random_init
            or given
            or any(option is not None for option in (checkpoint, request.num_classes, size))
        ):
            raise OnnxplainError(
                "the demo model comes as it is; its weights, classes, image size and preprocessing cannot be changed"
            )
        return load_demo(request.features)
    if size is not None and not all(1 <= side <= SIDE for side in size):
        raise OnnxplainError(f"`image_size` must be from 1 to {SIDE} pixels, got {size[0]} x {size[1]}")
    if row.name in MODELS:
        loaded = _load_row(row, checkpoint, request)
    else:
        loaded = _load_from(row.name.partition("/")[0], row.timm_name, checkpoint, request)
    return replace(loaded, preprocessing=replace(loaded.preprocessing, **given))


def _size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def _load_from(source: str, name: str, checkpoint: str | Path | None, request: Request) -> Loaded:
    """A model of a library; the checkpoint is a file, or a folder or repository that holds one."""
    if checkpoint is not None:
        path = _local(checkpoint, request)
        request = replace(request, checkpoint=weights_in(path) if path.is_dir() else path)
    load: Callable[..., Loaded] = import_module(f".{MODULES.get(source, f'from_{source}')}", __package__).load
    return load(name, request)


def _load_row(row: Row, checkpoint: str | Path | None, request: Request) -> Loaded:
    """The model of a row, from weights in timm's format, the authors' or transformers'; with text not in timm's."""
    from .from_transformers import load as load_transformers

    if row.repository is not None and checkpoint is None and not request.random_init:
        return load_transformers(row.repository, request, row.type)
    path = None if checkpoint is None else _local(checkpoint, request)
    if path is not None:
        folder = path.parent if path.is_file() and path.name in WEIGHTS else path
        if row.type and is_transformers(folder):
            return load_transformers(str(folder), request, row.type)
        path = weights_in(path) if path.is_dir() else path
    if request.text:
        return _load_from("open_clip", row.open_clip, path, request)
    size = request.image_size or (None if row.image_size is None else (row.image_size,) * 2)
    request = replace(request, checkpoint=path, image_size=size)
    loaded = _load_from("timm", row.timm_name, path, request)
    if row.crop_pct is None:
        return loaded
    return replace(loaded, preprocessing=replace(loaded.preprocessing, crop_pct=row.crop_pct))


def _local(checkpoint: str | Path, request: Request) -> Path:
    """The file or folder that is meant, downloaded if it is a repository's."""
    path = Path(checkpoint).expanduser()
    if path.exists() or not is_repository(str(checkpoint)):
        return path
    return fetch(str(checkpoint), request.report, text=request.text)


def _width(loaded: Loaded, pooling: str) -> int:
    """How many features a pooling gives."""
    features = loaded.model if pooling == "own" else loaded.tokens
    if features is None:
        raise OnnxplainError(
            f"a head on {loaded.source} can read the model's own features only: give `head_pooling='own'`"
        )
    if "cls" in pooling and not loaded.class_token:
        raise OnnxplainError(
            f"the model has no class token to be read by pooling {pooling}; `head_pooling` can be mean or own"
        )
    try:
        with torch.no_grad():
            given = features.eval()(torch.zeros(1, 3, *loaded.preprocessing.size))
    except Exception as error:  # the model's code may raise anything
        raise OnnxplainError(f"the model fails on an image of its size: {one_line(error)}") from error
    return int(POOLINGS[pooling](given, loaded.prefix).shape[-1])


def _with_head(loaded: Loaded, head: Head, pooling: str) -> Loaded:
    """The model with the head on it. Raises OnnxplainError if the head is for features of another width."""
    width = _width(loaded, pooling)
    if width != head.weight.shape[1]:
        raise OnnxplainError(
            f"the head is for features of width {head.weight.shape[1]}, pooling {pooling} gives {width}; "
            f"`head_pooling` can be {', '.join(POOLINGS)}"
        )
    return replace(loaded, model=nn.Sequential(_pooled(loaded, pooling), head.linear()), classes=len(head.weight))


def _pooled(loaded: Loaded, pooling: str) -> Pooled:
    """What a head reads, after _width has found that it can be had."""
    features = loaded.model if pooling == "own" or loaded.tokens is None else loaded.tokens
    return Pooled(features, pooling, loaded.prefix)


def _random_head(width: int, classes: int) -> Head:
    with same_random_numbers():
        return Head(torch.randn(classes, width) / width**0.5)


def checked_labels(given: Sequence[str], classes: int) -> tuple[str, ...]:
    """The labels as given; raises OnnxplainError unless there is one for each class."""
    if len(given) != classes:
        raise OnnxplainError(f"{len(given)} labels given for a model of {classes} classes")
    return tuple(given)


def _labels(loaded: Loaded, given: Sequence[str] | None, named: bool) -> tuple[str, ...]:
    """The given labels, the model's own, ImageNet's where a model of the table has its classes, or numbers."""
    if not loaded.classes:
        if given is not None:
            raise OnnxplainError(f"labels given for a model without classes; it can get some with {HOW_TO_GET_CLASSES}")
        return tuple(f"feature {index}" for index in range(_width(loaded, "own")))
    if given is not None:
        return checked_labels(given, loaded.classes)
    if loaded.labels is not None and len(loaded.labels) == loaded.classes:
        return loaded.labels
    if named and loaded.classes == IMAGENET:
        return tuple(ImageNetInfo().label_descriptions())
    return tuple(str(index) for index in range(loaded.classes))
