"""Private parts of open_clip, tested with open_clip_torch 3.3.0."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .convenience import convenience


def resize_positions(library: Any, state: dict[str, Tensor], model: Any) -> None:
    """Resize, in place, the image tower's position embeddings in ``state`` to those of the model."""
    with convenience("position embeddings are not resized to the image"):
        library.model.resize_pos_embed(state, model)


def give_features_only(tower: Any) -> None:
    """Have the image tower return its embedding alone, where it would return its tokens as well, as CoCa's does."""
    tower.output_tokens = False


def count_tokens(tokenizer: Any, text: str) -> int:
    """How many tokens a text becomes, with those before and after it; 0 where the tokenizer does not tell."""
    with convenience("prompts too long for the text encoder are cut"):
        inner = getattr(tokenizer, "tokenizer", None)
        if inner is not None:  # one of transformers
            return len(inner(tokenizer.clean_fn(text)).input_ids)
        return len(tokenizer.encode(text)) + 2
    return 0
