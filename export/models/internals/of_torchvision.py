"""Private parts of torchvision, tested with torchvision 0.29.2."""

from __future__ import annotations

from torch import Tensor

from .convenience import convenience


def resize_positions(state: dict[str, Tensor], image_size: int, patch_size: int) -> dict[str, Tensor]:
    """A Vision Transformer's weights with position embeddings for another image size, in pixels.

    Weights of another model are returned as they are: loading them tells what is wrong.
    """
    with convenience("position embeddings are not resized to the image"):
        from torchvision.models.vision_transformer import interpolate_embeddings

        try:
            resized: dict[str, Tensor] = interpolate_embeddings(image_size, patch_size, state)
            return resized
        except (KeyError, ValueError, RuntimeError):  # for other keys or shapes
            pass
    return state
