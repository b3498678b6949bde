"""Reads images, of whatever kind and within a limit on their size, as upright 8-bit RGB."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from onnxplain.contract.errors import ImageError, ImageFormatError, ImageSizeError, one_line

from ..files import check_file
from .geometry import bands


class Readable(Protocol):
    """A file open for reading bytes, or what behaves as one."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


ImageSource = str | Path | bytes | bytearray | memoryview | Readable | Image.Image | NDArray[np.uint8]
BYTES = bytes | bytearray | memoryview
UNNAMED = "the data given"  # what errors call an image in bytes

CHANNELS = (), (3,), (4,)  # of an array: the axes that may follow height and width

# The formats that are read, by Pillow's names, and what files of each end in when a folder is searched. No others:
# Pillow starts Ghostscript for EPS, whatever the file's name. First come those that need no import of all the others.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpeg", ".jpg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".pgm", ".ppm"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2",),
}
IMAGE_SUFFIXES = tuple(sorted(suffix for suffixes in FORMATS.values() for suffix in suffixes))

MAX_PIXELS = 2**26  # of an image, by default; decoding takes up to 0.7 GB then, of JPEG 2000 1.3 GB
SYSTEM_ERRORS = errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE  # of the system, not of the image
CHUNK = 2**20  # bytes that an open file is asked for at once
BYTES_PER_PIXEL = 4  # of an image in Pillow's memory
FILE_BYTES = 8, 2**24  # of a file: for each pixel that an image may have, and in any case

# Images with more than 8 bits per value do not say what their white is: it is taken to be the first of these that
# the image does not exceed, floating-point values by more than resizing adds. Pillow itself would clip at 255.
WHITE_LEVELS = {"I": (255, 2**16 - 1), "F": (1, 255, 2**16 - 1)}
EXCESS = {"I": 1, "F": 1.5}
SIXTEEN_BIT_WHITE = (2**16 - 1,)


def load_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image: upright (EXIF orientation), 8-bit RGB, transparency composited over white.

    Args:
        source: A path; an encoded image as bytes, or as a file open for reading bytes, which is read from where it
            stands to its end; a PIL image; or a uint8 array [height, width] (grey), [height, width, 3] (RGB) or
            [height, width, 4] (RGBA). Of several frames the first is taken. Encoded images are read in the formats of
            FORMATS.
        max_pixels: Encoded images that have more by their header are refused, and so are files that are larger than 8
            bytes for each of these pixels and 16 MB. Pillow has a limit of its own, twice PIL.Image.MAX_IMAGE_PIXELS.

    Raises:
        ImageError: If it cannot be read as an image, or is too large.
    """
    return decode(open_image(source, max_pixels), source)


def is_source(given: object) -> TypeGuard[ImageSource]:
    """Whether this is a single image in a form that `load_image` takes, and not several of them."""
    return isinstance(given, str | Path | BYTES | Image.Image | np.ndarray) or hasattr(given, "read")


def open_image(source: ImageSource, max_pixels: int) -> Image.Image:
    """Open an image without decoding it, which `decode` does; raises ImageError as `load_image` does."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        check_file(path, "an image", f"there is no image file {path}", ImageError)
        with _errors_named(source):
            size = path.stat().st_size
        file: Path | BytesIO = path
    else:
        data = _bytes_of(source, max_bytes(max_pixels) + 1)
        file, size = BytesIO(data), len(data)
    if size == 0:
        read = "" if isinstance(source, str | Path | BYTES) else ", or was read to its end"
        raise ImageError(f"{_name(source)} is empty{read}")
    if size > max_bytes(max_pixels):
        needed = max(-(-size // FILE_BYTES[0]), 2 * max_pixels)  # of an open file the size is not known
        raise ImageSizeError(
            f"{_name(source)} has {size} bytes, more than an image of {max_pixels} pixels needs; {_ways_out(needed)}"
        )
    with _errors_named(source):
        image = Image.open(file, formats=list(FORMATS))
    if math.prod(image.size) > max_pixels:
        image.close()
        raise ImageSizeError(
            f"{_name(source)} has {image.width} x {image.height} pixels, more than the limit of {max_pixels}; "
            f"{_ways_out(math.prod(image.size))}"
        )
    return image


def decode(image: Image.Image, source: ImageSource) -> Image.Image:
    """Decode what `open_image` returned for `source`; raises ImageError if it is damaged."""
    with _errors_named(source):
        if image is source:
            return _to_rgb(ImageOps.exif_transpose(image))
        with image:
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)


def allow_pixels(count: int) -> None:
    """Raise Pillow's own limit on the size of images, for this process, to this number of pixels."""
    if Image.MAX_IMAGE_PIXELS is not None:  # None is no limit
        Image.MAX_IMAGE_PIXELS = max(count, Image.MAX_IMAGE_PIXELS)


def max_bytes(max_pixels: int) -> int:
    """The largest file that is read for an image of at most so many pixels."""
    return FILE_BYTES[0] * max_pixels + FILE_BYTES[1]


def memory_of(image: Image.Image) -> int:
    """The bytes that the image takes when it is decoded."""
    return BYTES_PER_PIXEL * math.prod(image.size)


def to_bytes(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """0..1 to 0..255, rounded and clipped."""
    return np.ascontiguousarray(np.rint(np.clip(values, 0, 1) * 255), dtype=np.uint8)


def _bytes_of(source: Any, most: int) -> bytes:
    """The bytes given, or what a file holds from where it stands, then at most so many."""
    if isinstance(source, BYTES):
        return bytes(source)
    if not hasattr(source, "read"):
        raise ImageError(
            "an image must be a path, bytes, a file open for reading bytes, a PIL image or a uint8 array, "
            f"got {type(source).__name__}"
        )
    data = bytearray()
    while len(data) < most:
        with _errors_named(source):
            part = source.read(min(CHUNK, most - len(data)))
        if not isinstance(part, bytes):
            raise ImageError(
                f"{_name(source)} gave {type(part).__name__} when it was read, not bytes; open it with mode 'rb', or "
                "give the bytes themselves"
            )
        if not part:
            break
        data += part
    return bytes(data)


def _ways_out(needed: int) -> str:
    return f"make it smaller, or raise the limit: `max_pixels={needed}`"


def _name(source: ImageSource) -> str:
    """What errors call the image."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, BYTES):
        return UNNAMED
    if isinstance(source, np.ndarray | Image.Image):
        return "the array" if isinstance(source, np.ndarray) else "the PIL image"
    return f"the open file {getattr(source, 'name', '')}".rstrip()


@contextmanager
def _errors_named(source: ImageSource) -> Iterator[None]:
    """Turn what Pillow raises for a bad image into an ImageError that names the image."""
    name = _name(source)
    try:
        yield
    except UnidentifiedImageError:
        raise ImageFormatError(
            f"{name} is not an image in a format that is read ({', '.join(FORMATS)}), or it is damaged"
        ) from None
    except Image.DecompressionBombError:
        raise ImageSizeError(
            f"{name} has more pixels than Pillow's own limit, twice PIL.Image.MAX_IMAGE_PIXELS; make it smaller, or "
            "raise that too"
        ) from None
    except ImageError as error:
        raise ImageError(f"{name} {error}") from None
    except Exception as error:  # a damaged file can raise nearly anything from inside one of Pillow's decoders
        if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
            raise ImageError(f"{name} cannot be read: {error.strerror}") from None
        raise ImageError(f"{name} cannot be read as an image, it may be damaged: {one_line(error)}") from None


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in CHANNELS or array.size == 0:
        raise ImageError(
            "an image array must be uint8 [height, width] (grey), [height, width, 3] (RGB) or [height, width, 4] "
            f"(RGBA), got {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _to_rgb(image: Image.Image) -> Image.Image:
    """A new image, 8-bit RGB, made band by band."""
    if 0 in image.size:
        raise ValueError(f"it has no pixels ({image.width} x {image.height})")
    image.load()
    white = _white_level(image)
    result = Image.new("RGB", image.size)
    for box in _boxes(image):
        band = image.crop(box)
        if white is not None:
            band = Image.fromarray(to_bytes(np.asarray(band).astype(np.float64) / white))
        if band.has_transparency_data:
            band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band.convert("RGBA"))
        result.paste(band.convert("RGB"), box)
    return result


def _boxes(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """The image in bands, (left, upper, right, lower) each: the steps of a conversion take much memory."""
    for rows in bands(0, image.height, image.width):
        yield 0, rows.start, image.width, rows.stop


def _white_level(image: Image.Image) -> float | None:
    """The white of a one-channel image of more than 8 bits per value, None for all others."""
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    levels = SIXTEEN_BIT_WHITE if sixteen_bits else WHITE_LEVELS.get(image.mode)
    if levels is None:
        return None
    extremes = [(values.min(), values.max()) for values in (np.asarray(image.crop(box)) for box in _boxes(image))]
    if not np.isfinite(extremes).all():
        raise ValueError("it holds values that are not finite")
    highest, excess = np.max(extremes), EXCESS.get(image.mode, 1)
    white = next((level for level in levels if highest <= excess * level), None)
    if white is None:
        known = ", ".join(map(str, levels))
        raise ImageError(
            f"has values to {highest:g}, and nothing says what its white is; those that are known go to {known}: "
            "convert it to 8 or 16 bits"
        )
    return white
