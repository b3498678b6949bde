"""Text encoders of transformers, with the tokenizer in the same folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from onnxplain.contract import OnnxplainError
from onnxplain.contract.errors import one_line

from ..checkpoints import TOKENIZERS
from ..records import TextEncoder
from ..weights import check_model


@dataclass(frozen=True)
class EncoderRow:
    """How a kind of model encodes texts.

    Attributes:
        model_class: The class of both towers.
        padding: How texts are padded, as in training.
        embed: (model, tokens) to embeddings.
    """

    model_class: str
    padding: str
    embed: Callable[[Any, Mapping[str, Tensor]], Tensor]


ENCODERS = {
    "clip": EncoderRow(
        "CLIPModel", "longest", lambda model, tokens: model.text_projection(model.text_model(**tokens).pooler_output)
    ),
    "siglip": EncoderRow("SiglipModel", "max_length", lambda model, tokens: model.text_model(**tokens).pooler_output),
}
"""By model type, those that have a text encoder."""


def text_encoder(library: Any, folder: Path, model: Any) -> TextEncoder:
    """The text half of a model.

    Args:
        library: transformers.
        folder: Where the tokenizer is.
        model: Both towers, of a class in ENCODERS.

    Raises:
        OnnxplainError: If the folder has no tokenizer that can be read.
    """
    check_model(str(folder), model)
    tokenizer = _tokenizer(library, folder)
    encoder = ENCODERS[model.config.model_type]
    limit = min(model.config.text_config.max_position_embeddings, tokenizer.model_max_length)

    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=encoder.padding, max_length=limit, return_tensors="pt")
        return encoder.embed(model, {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens})

    bias = getattr(model, "logit_bias", None)
    return TextEncoder(
        encode=encode,
        count_tokens=lambda text: len(tokenizer(text).input_ids),
        limit=limit,
        scale=model.logit_scale.exp().item(),
        bias=None if bias is None else bias.item(),
    )


def _tokenizer(library: Any, folder: Path) -> Any:
    if not any((folder / name).is_file() for name in TOKENIZERS):  # transformers would make up one without words
        raise OnnxplainError(
            f"{folder} holds no tokenizer, which would be in {' or '.join(TOKENIZERS[:2])}; "
            "save that of the model there with tokenizer.save_pretrained"
        )
    try:
        return library.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:  # SigLIP's is of the library sentencepiece
        raise OnnxplainError(
            f"the tokenizer in {folder} needs sentencepiece: pip install 'onnxplain[transformers]'"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise OnnxplainError(f"transformers cannot load the tokenizer in {folder}: {one_line(error)}") from error
