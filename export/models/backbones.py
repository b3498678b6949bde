"""From a name to a model with weights, labels and preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from onnxplain.catalog import find_row
from onnxplain.contract import Preprocessing

from .arguments import check_head, check_loading, check_pooling, check_prompts
from .heads import Head, random_head, read_head, with_head
from .labels import feature_names, labels_of
from .loading import load_model
from .pooling import features_width, pooled
from .prompts import zero_shot
from .records import Request
from .sizes import pair
from .weights import check_model


@dataclass(frozen=True)
class Backbone:
    """A model, and what an artifact has to say about it.

    Attributes:
        name: What the model is called in the artifact.
        model: float32 [batch, 3, H, W] to logits [batch, classes], or to features [batch, width]; in evaluation mode.
        preprocessing: From an image to the model's input.
        labels: A name for each output.
        activation: From logits to probabilities: "softmax", or "sigmoid" where several classes can be true at once.
        source: Where the weights come from, in words.
        sha256: Of the checkpoint file, of the demo model of the weights themselves; None where there is neither.
        pooling: None where the outputs are classes; where they are features, what these are of the model, a key of
            POOLINGS. Features have maps of attention and views only, none of a class.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    activation: str
    source: str
    sha256: str | None
    pooling: str | None = None

    @property
    def has_classes(self) -> bool:
        """Whether the outputs are classes."""
        return self.pooling is None


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
    progress: Callable[[str], None] = lambda stage: None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Backbone:
    """Load a model by name, with its published weights unless others are given.

    Args:
        name: A key of MODELS, "demo", or "<library>/<name>" with a key of LIBRARIES.
        checkpoint: Weights in place of the published ones: a file, .safetensors or .pth (read without running pickles),
            or a folder or hub repository that holds one.
        random_init: Take random weights, the same each time, for trying things out.
        num_classes: In place of the model's own.
        image_size: In pixels, one number or (height, width), in place of the model's own.
        labels: One for each class, in place of the model's own.
        head: A classifier, or a file that ``read_head`` reads, in place of the model's own head.
        head_pooling: What the head reads of the model, a key of POOLINGS, in place of what its file says.
        prompts: Classes in words, for models with a text encoder. The logits are the zero-shot logits that the model's
            own library gives, and the labels are these words unless ``labels`` are given.
        templates: Sentences such as "a photo of a {}." that each prompt is put into; a class is the mean of their
            embeddings.
        progress: Called with a description of each stage as it begins, and with how far downloads are.
        preprocessing: Any of mean, std, crop_pct, crop_mode, interpolation and crop_rounding, as in Preprocessing, in
            place of the model's own. A folder of transformers without a file that describes its image processor needs
            mean and std; the other fields have Preprocessing's defaults then.

    Returns:
        The classifier. A model without a head gives features, and an artifact that shows no class.

    Raises:
        OnnxplainError: If the name is unknown, the weights cannot be had or do not fit, or arguments contradict each
            other.
    """
    row, size = find_row(name), None if image_size is None else pair(image_size)
    check_head(head, head_pooling, num_classes)
    check_prompts(row, prompts, templates, head, num_classes)
    check_loading(row, checkpoint, random_init, num_classes, size, preprocessing or {})
    if isinstance(head, str | Path):
        head = read_head(head)
    head_is_published_apart = row.pooling != "own"
    needs_random_head = random_init and head is None and head_is_published_apart
    needs_features = needs_random_head or head is not None or prompts is not None
    request = Request(
        row=row,
        random_init=random_init,
        num_classes=None if needs_features else num_classes,
        image_size=size,
        needs_features=needs_features,
        needs_text=prompts is not None,
        progress=progress,
        preprocessing=preprocessing or {},
    )
    loaded = load_model(request, checkpoint)
    if needs_random_head:
        head = random_head(features_width(loaded, row.pooling), num_classes or row.classes)
    if head is not None:
        loaded = with_head(loaded, head, head_pooling or head.pooling or row.pooling)
    if prompts is not None:
        loaded = zero_shot(loaded, prompts, templates or ("{}",), progress)
    names = labels_of(loaded, row, labels or None)
    return Backbone(
        name=_last_part(name),
        model=loaded.model.eval(),
        preprocessing=loaded.preprocessing,
        labels=names,
        activation="sigmoid" if len(names) == 1 else loaded.activation,  # the softmax of one class is always 1
        source=loaded.source,
        sha256=loaded.sha256,
        pooling=None if loaded.classes else "own",
    )


def load_features(
    name: str,
    checkpoint: str | Path | None = None,
    random_init: bool = False,
    image_size: int | tuple[int, int] | None = None,
    head_pooling: str | None = None,
    progress: Callable[[str], None] = lambda stage: None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Backbone:
    """Load what ``load_backbone`` with the same arguments would put a head on.

    Args:
        name: As for ``load_backbone``.
        checkpoint: As for ``load_backbone``.
        random_init: As for ``load_backbone``.
        image_size: As for ``load_backbone``.
        head_pooling: What the head will read, a key of POOLINGS; by default what suits the model.
        progress: Called with how far downloads are.
        preprocessing: As for ``load_backbone``.

    Returns:
        The model, float32 [batch, 3, H, W] to features [batch, width]; its ``pooling`` says which these are.

    Raises:
        OnnxplainError: As ``load_backbone`` does, and if a weight is not finite.
    """
    row, size = find_row(name), None if image_size is None else pair(image_size)
    check_pooling(head_pooling)
    check_loading(row, checkpoint, random_init, None, size, preprocessing or {})
    request = Request(
        row=row,
        random_init=random_init,
        image_size=size,
        needs_features=True,
        progress=progress,
        preprocessing=preprocessing or {},
    )
    loaded = load_model(request, checkpoint)
    check_model(f"{row.name} ({loaded.source})", loaded.model)
    pooling = head_pooling or row.pooling
    width = features_width(loaded, pooling)
    return Backbone(
        name=_last_part(name),
        model=pooled(loaded, pooling).eval(),
        preprocessing=loaded.preprocessing,
        labels=feature_names(width),
        activation=loaded.activation,
        source=loaded.source,
        sha256=loaded.sha256,
        pooling=pooling,
    )


def _last_part(name: str) -> str:
    """Of a path or a name with slashes."""
    return name.rstrip("/").rpartition("/")[2]
