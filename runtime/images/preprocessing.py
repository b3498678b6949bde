"""Makes the model's input of an image, bit for bit as timm or transformers does, and the image of an input."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnxplain.contract.errors import ImageError
from onnxplain.contract.preprocessing import Preprocessing

from .geometry import Placement
from .loading import to_bytes


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> tuple[NDArray[np.float32], Placement]:
    """Make the model's input of an RGB image.

    Equal, bit for bit, to timm's `create_transform(**data_config, is_training=False)` (timm.data.transforms_factory,
    `transforms_imagenet_eval`), and with a `crop_rounding` of "floor" to the image processors of transformers that work
    on Pillow (`image_transforms.center_crop` there).

    Args:
        image: An RGB image.
        preprocessing: The artifact's.

    Returns:
        The input, float32 [3, H, W], and where it lies in the image.

    Raises:
        ImageError: If the image is too elongated to be resized.
    """
    placement = placement_of((image.height, image.width), preprocessing)
    (height, width), (top, left), crop = placement.resized, placement.offset, placement.crop
    resized = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    window = Image.new("RGB", (crop[1], crop[0]), preprocessing.padding)
    window.paste(resized, (-left, -top))

    return normalize(np.asarray(window), preprocessing), placement


def placement_of(size: tuple[int, int], preprocessing: Preprocessing) -> Placement:
    """Where the model's input lies in an image of this size, (height, width).

    Raises:
        ImageError: If the image is too elongated to be resized.
    """
    height, width = _resized_size(size, preprocessing)
    if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
        raise ImageError(
            f"an image of {size[1]} x {size[0]} pixels is too elongated: preprocessing would make it "
            f"{width} x {height}; crop it first"
        )
    crop = preprocessing.size
    top, left = (
        _crop_offset(*lengths, preprocessing.crop_rounding) for lengths in zip((height, width), crop, strict=True)
    )
    return Placement(size, (height, width), (top, left), crop)


def normalize(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """uint8 [H, W, 3] to float32 [3, H, W]: (value / 255 - mean) / std, in float32 and in this order, as torch does."""
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    pixels /= np.float32(255)
    pixels -= _channels(preprocessing.mean)
    pixels /= _channels(preprocessing.std)
    return pixels


def denormalize(pixels: NDArray[np.float32], preprocessing: Preprocessing) -> Image.Image:
    """The image that float32 [3, H, W] pixels show; values outside 0..255 are clipped."""
    values = pixels * _channels(preprocessing.std) + _channels(preprocessing.mean)
    return Image.fromarray(to_bytes(values.transpose(1, 2, 0)))


def _channels(values: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None, None]


def _resized_size(original: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) the image is resized to before the crop."""
    scaled = tuple(math.floor(length / preprocessing.crop_pct) for length in preprocessing.size)
    if preprocessing.crop_mode == "squash":
        return scaled[0], scaled[1]
    height, width = original
    if preprocessing.crop_mode == "center" and scaled[0] == scaled[1]:
        # torchvision's Resize to a shorter edge: integer arithmetic that differs from the ratio below
        short, long = scaled[0], int(scaled[0] * max(original) / min(original))
        return (long, short) if width <= height else (short, long)
    ratios = (height / scaled[0], width / scaled[1])
    ratio = max(ratios) if preprocessing.crop_mode == "border" else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _crop_offset(length: int, crop: int, rounding: str) -> int:
    """Where a centred crop starts; torchvision rounds halves to even when cutting and down when padding."""
    if rounding == "floor":
        return (length - crop) // 2
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)
