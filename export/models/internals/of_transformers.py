"""Private parts of transformers, tested with transformers 5.23.0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn, no_grad, zeros

from onnxplain.contract import OnnxplainError

from .convenience import convenience

SDPA = "sdpa"
"""The name of PyTorch's attention."""
SDPA_WITHOUT_MASK = "onnxplain_sdpa"
"""The name under which it is registered without the mask that transformers would build for it."""


def sdpa_without_mask(library: Any) -> str:
    """The name of PyTorch's attention without a mask, which gives a smaller graph; SDPA if it cannot be registered."""
    with convenience("the graph contains attention masks that mask nothing"):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        library.AttentionInterface.register(SDPA_WITHOUT_MASK, sdpa_attention_forward)
        return SDPA_WITHOUT_MASK
    return SDPA


def build(model_class: Any, config: Any, attention: str, options: dict[str, bool]) -> Any:
    """A model of random weights with this implementation of attention; raises anything if it cannot be built."""
    config._attn_implementation = attention
    return model_class(config, **options)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar, and no table of keys."""
    with ExitStack() as restore:
        with convenience("transformers prints its own progress"):
            from transformers.utils import logging

            restore.callback(logging.set_verbosity, logging.get_verbosity())
            if logging.is_progress_bar_enabled():
                restore.callback(logging.enable_progress_bar)
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        yield


def hide_no_patches(model: nn.Module) -> None:
    """Have MAE's encoder look at all patches; in training most are hidden at random.

    Raises:
        OnnxplainError: If this version of transformers hides them in another way.
    """
    embeddings: Any = model.get_submodule("embeddings")
    if not hasattr(embeddings, "random_masking"):
        raise OnnxplainError("this version of transformers hides patches of MAE in an unknown way; install another")
    embeddings.random_masking = _all_patches


def _all_patches(sequence: Tensor, noise: Tensor | None = None) -> tuple[Tensor, None, None]:
    """What random_masking returns: the patches that are left, the mask, and the order to restore."""
    return sequence, None, None


class Constant(nn.Module):
    """Stands for a module whose output depends on the image size alone."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, *_: Any, **__: Any) -> Any:
        """The output that it had."""
        return self.value


def freeze_position_biases(model: nn.Module, options: dict[str, bool], size: tuple[int, int]) -> None:
    """Replace BEiT's relative position biases by their values for images of ``size``, (height, width).

    BEiT computes them for each image anew, with assignments in place that cannot be traced.
    """
    places = [name for name, module in model.named_modules() if type(module).__name__ == "BeitRelativePositionBias"]
    biases: dict[str, Tensor] = {}
    for place in places:
        module = model.get_submodule(place)
        module.register_forward_hook(lambda module, inputs, output, place=place: biases.update({place: output}))
    if places:
        with no_grad():
            model(pixel_values=zeros(1, 3, *size), **options)
    for place, bias in biases.items():
        model.set_submodule(place, Constant(bias))
