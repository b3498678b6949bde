"""From whatever the user has to the model's input, bit for bit as timm's evaluation transform does it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import OnnxplainError, one_line
from .geometry import Placement
from .metadata import Preprocessing

ImageSource = str | Path | bytes | Image.Image | NDArray[np.uint8]
IMAGE_TYPES = (str, Path, bytes, Image.Image, np.ndarray)  # the same, for isinstance

# What files end in that are taken for pictures when a folder is searched
IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Pictures with more than 8 bits per value do not say what their white is: it is taken to be the first of these that
# is not below the picture's maximum. Pillow itself would clip at 255.
WHITE_LEVELS = {"I": (255, 2**16 - 1, 2**31 - 1), "F": (1, 255, 2**16 - 1, float(np.finfo(np.float32).max))}
SIXTEEN_BIT_WHITE = (2**16 - 1,)


def load_image(source: ImageSource) -> Image.Image:
    """The picture as seen: upright (EXIF orientation), 8-bit RGB, transparency composited over white.

    `source` is a path, an encoded image as bytes, a PIL image or a uint8 array [height, width, 3] (RGB). Of several
    frames the first is taken. Raises OnnxplainError if it cannot be read as a picture.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with _errors_named("the PIL image"):
            return _to_rgb(source)
    if isinstance(source, bytes):
        with _errors_named("the bytes given"), Image.open(BytesIO(source)) as image:
            return _to_rgb(image)
    if isinstance(source, str | Path):
        _check_is_file(Path(source))
        with _errors_named(str(source)), Image.open(source) as image:
            return _to_rgb(image)
    raise OnnxplainError(
        f"an image must be a path, bytes, a PIL image or a uint8 array [height, width, 3], got {type(source).__name__}"
    )


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> tuple[NDArray[np.float32], Placement]:
    """An RGB picture as the model's input, float32 [3, H, W], and where that input lies in the picture.

    Equal, bit for bit, to timm's `create_transform(**data_config, is_training=False)` (timm.data.transforms_factory,
    `transforms_imagenet_eval`). Raises OnnxplainError if the picture is too elongated to be resized.
    """
    height, width = _resized_size((image.height, image.width), preprocessing)
    if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
        raise OnnxplainError(
            f"a picture of {image.width} x {image.height} pixels is too elongated: preprocessing would make it "
            f"{width} x {height}; crop it first"
        )
    resized = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])

    crop = preprocessing.size
    top, left = _crop_offset(height, crop[0]), _crop_offset(width, crop[1])
    # Only border mode pads with the mean colour; center and squash pad black where the crop is larger than the picture
    fill = tuple(round(255 * value) if preprocessing.crop_mode == "border" else 0 for value in preprocessing.mean)
    window = Image.new("RGB", (crop[1], crop[0]), fill)
    window.paste(resized, (-left, -top))

    return (
        normalize(np.asarray(window), preprocessing),
        Placement((image.height, image.width), (height, width), (top, left), crop),
    )


def normalize(picture: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """uint8 [H, W, 3] to float32 [3, H, W]: (value / 255 - mean) / std, in float32 and in this order, as torch does."""
    pixels = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)
    pixels /= np.float32(255)
    pixels -= _channels(preprocessing.mean)
    pixels /= _channels(preprocessing.std)
    return pixels


def denormalize(pixels: NDArray[np.float32], preprocessing: Preprocessing) -> Image.Image:
    """The picture that float32 [3, H, W] pixels show; values outside 0..255 are clipped."""
    values = pixels * _channels(preprocessing.std) + _channels(preprocessing.mean)
    return Image.fromarray(_to_bytes(values.transpose(1, 2, 0)))


def _channels(values: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)[:, None, None]


def _to_bytes(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """0..1 to 0..255, rounded and clipped."""
    return np.ascontiguousarray(np.rint(np.clip(values, 0, 1) * 255), dtype=np.uint8)


def _resized_size(original: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) the picture is resized to before the crop."""
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


def _crop_offset(length: int, crop: int) -> int:
    """Where a centred crop starts; torchvision rounds halves to even when cutting and down when padding."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        raise OnnxplainError(f"{path} is a folder, not an image; give the pictures in it")
    if not path.exists():
        raise OnnxplainError(f"there is no image file {path}")


@contextmanager
def _errors_named(name: str) -> Iterator[None]:
    """Turns what Pillow raises on a bad picture into an OnnxplainError that names the picture."""
    try:
        yield
    except UnidentifiedImageError:
        raise OnnxplainError(f"{name} is not an image in a format that Pillow reads, or it is damaged") from None
    except Image.DecompressionBombError:
        raise OnnxplainError(f"{name} has more pixels than Pillow's safety limit; scale it down first") from None
    except Exception as error:  # a damaged file can raise nearly anything from inside one of Pillow's decoders
        raise OnnxplainError(f"{name} cannot be read as an image, it may be damaged: {one_line(error)}") from None


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise OnnxplainError(
            f"an image array must be uint8 [height, width, 3] (RGB), got {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = _scale_to_grey(image, SIXTEEN_BIT_WHITE)
    elif image.mode in WHITE_LEVELS:
        image = _scale_to_grey(image, WHITE_LEVELS[image.mode])
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    if 0 in image.size:
        raise ValueError(f"it has no pixels ({image.width} x {image.height})")
    return image


def _scale_to_grey(image: Image.Image, white_levels: tuple[float, ...]) -> Image.Image:
    """A one-channel picture of more than 8 bits per value as 8-bit grey, scaled to the white level it fits."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    white = next(level for level in white_levels if level >= values.max(initial=0))
    return Image.fromarray(_to_bytes(values / white))
