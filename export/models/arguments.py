"""The arguments of load_backbone and load_features, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from onnxplain.catalog import DEMO, LIBRARIES, MODELS, Row
from onnxplain.contract import OnnxplainError
from onnxplain.contract.names import no_such, or_rather
from onnxplain.contract.validation import SIDE, is_pair

from .pooling import POOLINGS

FIELDS = ("mean", "std", "crop_pct", "crop_mode", "interpolation", "crop_rounding")
"""The fields of Preprocessing that can be given in place of a model's own. Its size is the argument image_size."""


def check_loading(
    row: Row,
    checkpoint: str | Path | None,
    random_init: bool,
    num_classes: int | None,
    image_size: tuple[int, int] | None,
    preprocessing: Collection[str],
) -> None:
    """Raise OnnxplainError unless a model can be loaded with these; image_size is (height, width)."""
    if checkpoint is not None and random_init:
        raise OnnxplainError("`checkpoint` and `random_init` exclude each other; give one of them")
    for field in preprocessing:
        if field not in FIELDS:
            hint = "; `image_size` is its size" if field == "size" else ""
            raise OnnxplainError(no_such("field of preprocessing", field, FIELDS) + hint)
    if row.library == DEMO and (random_init or preprocessing or _any_given(num_classes, image_size)):
        raise OnnxplainError(
            "the demo model comes as it is; its classes, image size and preprocessing cannot be changed"
        )
    if num_classes is not None and num_classes < 1:
        raise OnnxplainError(f"`num_classes` must be at least 1, got {num_classes}")
    if image_size is not None and not is_pair(image_size):
        raise OnnxplainError(f"`image_size` must be from 1 to {SIDE} pixels, got {' x '.join(map(str, image_size))}")


def check_head(head: object, head_pooling: str | None, num_classes: int | None) -> None:
    """Raise OnnxplainError unless a head, of any kind or None, goes with the other arguments."""
    if head is not None and num_classes is not None:
        raise OnnxplainError("`head` has its number of classes; leave out `num_classes`")
    if head_pooling is not None and head is None:
        raise OnnxplainError("`head_pooling` says what `head` reads; give `head` too")
    check_pooling(head_pooling)


def check_pooling(head_pooling: str | None) -> None:
    """Raise OnnxplainError unless this is None or a key of POOLINGS."""
    if head_pooling is not None and head_pooling not in POOLINGS:
        raise OnnxplainError(
            f"`head_pooling` says what a head reads: one of {', '.join(POOLINGS)}, got {head_pooling!r}"
            + or_rather(head_pooling, POOLINGS)
        )


def check_prompts(
    row: Row, prompts: Sequence[str] | None, templates: Sequence[str], head: object, num_classes: int | None
) -> None:
    """Raise OnnxplainError unless classes can be made of the prompts, with this model and the other arguments."""
    for argument, texts in (("prompts", prompts), ("templates", templates)):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts or ()):
            raise OnnxplainError(f"`{argument}` must be a list of texts, got {texts!r}")
    if prompts is None:
        if templates:
            raise OnnxplainError("`templates` are what `prompts` are put into; give `prompts` as well")
        return
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise OnnxplainError(f"`prompts` need words for each class, none of them empty, got {list(prompts)}")
    twice = next((prompt for place, prompt in enumerate(prompts) if prompt in prompts[:place]), None)
    if twice is not None:
        raise OnnxplainError(f"`prompts` name the class {twice!r} twice")
    without = next((template for template in templates if "{}" not in template), None)
    if without is not None:
        raise OnnxplainError(
            f"`templates` must say with {{}} where the class goes, such as 'a photo of a {{}}.', got {without!r}"
        )
    if _any_given(head, num_classes):
        raise OnnxplainError("`prompts` make a head of one class each; leave out `head` and `num_classes`")
    with_text = [name for name, library in LIBRARIES.items() if library.has_text]
    if not row.open_clip and row.library not in with_text:
        known = [*(row.name for row in MODELS.values() if row.open_clip), *(f"{name}/<name>" for name in with_text)]
        raise OnnxplainError(
            f"`prompts` need a model with a text encoder, not {row.name}; known are {', '.join(known)}"
        )


def _any_given(*arguments: Any) -> bool:
    return any(argument is not None for argument in arguments)
