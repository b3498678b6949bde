"""Sizes of images: crops as timm counts them, and patches that must fill the image."""

from __future__ import annotations

import numpy as np

from onnxplain.contract import OnnxplainError


def crop_pct(size: tuple[int, int], resized: tuple[int, int]) -> float:
    """The share that is cropped, such that timm's floor(size / crop_pct) is ``resized`` again.

    Args:
        size: (height, width) of the crop.
        resized: (height, width) that the image is resized to before.

    Returns:
        size / resized, rounded down a little where timm's floor needs it.

    Raises:
        OnnxplainError: If no number does that for both height and width.
    """
    share = min(length / before for length, before in zip(size, resized, strict=True))
    for number in (share, float(np.nextafter(share, 0))):
        if tuple(int(length / number) for length in size) == resized:
            return number
    raise OnnxplainError(
        f"images are cropped from {resized[0]} x {resized[1]} to {size[0]} x {size[1]} (height x width), which must "
        "be the same share of both"
    )


def check_patches(name: str, size: tuple[int, int], patch: tuple[int, int]) -> None:
    """Raise OnnxplainError unless patches of ``patch`` pixels fill an image of ``size``, (height, width) each."""
    if any(pixels % step for pixels, step in zip(size, patch, strict=True)):
        raise OnnxplainError(
            f"`image_size` must be a multiple of {name}'s patches of {patch[0]} x {patch[1]} pixels, "
            f"got {size[0]} x {size[1]}"
        )


def pair(length: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """(height, width) of what may be one number for both."""
    return (length[0], length[1]) if isinstance(length, tuple | list) else (length, length)
