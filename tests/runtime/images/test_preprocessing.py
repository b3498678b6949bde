"""Preprocessing equals timm's evaluation transform bit for bit, and every kind of picture becomes upright 8-bit RGB."""

import zlib
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import skimage.data
from PIL import Image
from timm.data import create_transform, resolve_data_config

from onnxplain.contract.preprocessing import CROP_MODES, INTERPOLATIONS
from onnxplain.runtime import OnnxplainError, Preprocessing, load_image, preprocess
from onnxplain.runtime.images.preprocessing import denormalize

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


def _noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


PICTURES = {
    name: Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")
}
ODD_PICTURES = {
    f"{w}x{h}": _noise(w, h) for w, h in [(1, 1), (2, 3), (17, 300), (301, 19), (95, 97), (224, 224), (255, 256)]
}


def _timm(image: Image.Image, settings: Preprocessing) -> np.ndarray:
    config = resolve_data_config(
        {
            "input_size": (3, *settings.size),
            "interpolation": settings.interpolation,
            "mean": settings.mean,
            "std": settings.std,
            "crop_pct": settings.crop_pct,
            "crop_mode": settings.crop_mode,
        }
    )
    return create_transform(**config, is_training=False)(image).numpy()


def _assert_equals_timm(image: Image.Image, settings: Preprocessing) -> None:
    pixels, placement = preprocess(image, settings)
    assert pixels.dtype == np.float32
    assert placement.original == (image.height, image.width)
    np.testing.assert_array_equal(pixels, _timm(image, settings))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("size", [(224, 224), (96, 160)])
def test_photographs_equal_timm(name, crop_mode, size):
    for interpolation, crop_pct, norm in [("bicubic", 0.9, IMAGENET), ("bilinear", 0.875, CLIP)]:
        _assert_equals_timm(
            PICTURES[name],
            Preprocessing(size, crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation, **norm),
        )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_odd_sizes_equal_timm(interpolation, crop_mode):
    for image, size, crop_pct in product(
        ODD_PICTURES.values(), [(32, 32), (37, 23), (24, 56), (32, 33)], [0.875, 1.0, 0.95, 1.3]
    ):
        if crop_mode == "border" and min(image.size) * 20 < max(image.size) < 400 and min(size) < 30:
            continue  # the shorter edge rounds to nothing, where timm raises
        settings = Preprocessing(size, crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation, **IMAGENET)
        _assert_equals_timm(image, settings)


def test_border_keeps_a_sliver_that_would_round_to_nothing():
    pixels, placement = preprocess(_noise(1000, 1), Preprocessing((32, 32), crop_mode="border", **IMAGENET))
    assert placement.resized == (1, 36) and pixels.shape == (3, 32, 32)


def test_too_elongated_is_refused_instead_of_filling_the_memory():
    with pytest.raises(OnnxplainError, match="too elongated"):
        preprocess(Image.new("RGB", (60000, 1)), Preprocessing((224, 224), **IMAGENET))


def test_denormalize_shows_the_window():
    settings = Preprocessing((64, 64), crop_pct=1.0, crop_mode="squash", **CLIP)
    image = PICTURES["chelsea"].resize((64, 64))
    assert np.array_equal(denormalize(preprocess(image, settings)[0], settings), image)


# --- load_image ---

RAMP = np.linspace(0, 255, 12 * 8).reshape(8, 12).astype(np.uint8)
PHOTO = PICTURES["coffee"].resize((30, 20))


def _png(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_path_bytes_pil_and_array_are_the_same_image(tmp_path):
    file = tmp_path / "a.png"
    PHOTO.save(file)
    for source in (file, str(file), file.read_bytes(), PHOTO, np.asarray(PHOTO), np.asarray(PHOTO)[:, ::-1][:, ::-1]):
        image = load_image(source)
        assert image.mode == "RGB" and np.array_equal(image, PHOTO)


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "RGB", "RGBX", "YCbCr", "HSV", "CMYK", "RGBA", "RGBa", "LA"])
def test_every_mode_becomes_rgb(mode):
    via = {"RGBa": "RGBA", "PA": "P"}.get(mode, mode)  # what Pillow can turn into that mode
    source = PHOTO.convert(via).convert(mode)
    image = load_image(source)
    assert image.mode == "RGB"
    assert np.array_equal(image, PHOTO.convert(via).convert("RGB"))


def test_cmyk_jpeg_is_decoded():
    image = load_image(_png(PHOTO.convert("CMYK"), "JPEG", quality=95))
    assert image.mode == "RGB" and np.abs(np.asarray(image, int) - np.asarray(PHOTO, int)).mean() < 8


def _transparent_palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    return image


def _transparent_rgb() -> Image.Image:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (200, 100, 50))
    image.info["transparency"] = (10, 20, 30)
    return image


@pytest.mark.parametrize("make", [_transparent_palette, _transparent_rgb])
def test_transparent_colour_is_white(make):
    for source in (make(), _png(make())):
        image = load_image(source)
        assert image.getpixel((0, 0)) == (255, 255, 255) and image.getpixel((1, 0)) == (200, 100, 50)


def test_alpha_is_composited_over_white():
    rgba = Image.new("RGBA", (1, 1), (0, 0, 0, 102))
    assert load_image(rgba).getpixel((0, 0)) == (153, 153, 153)
    assert load_image(Image.new("LA", (1, 1), (50, 0))).getpixel((0, 0)) == (255, 255, 255)


def _grey(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    assert np.array_equal(values[..., 0], values[..., 1]) and np.array_equal(values[..., 0], values[..., 2])
    return values[..., 0]


def test_sixteen_bits_are_scaled_not_clipped():
    wide = RAMP.astype(np.uint16) * 257
    little = Image.fromarray(wide)
    assert little.mode == "I;16"
    big = Image.frombytes("I;16B", RAMP.shape[::-1], wide.astype(">u2").tobytes())
    for source in (little, _png(little), big, Image.fromarray(wide.astype(np.int32))):
        assert np.array_equal(_grey(load_image(source)), RAMP)


@pytest.mark.parametrize("values", [RAMP.astype(np.int32), RAMP.astype(np.float32), RAMP.astype(np.float32) / 255])
def test_wide_types_holding_eight_bits_keep_them(values):
    assert np.array_equal(_grey(load_image(Image.fromarray(values))), RAMP)


def test_dark_images_of_sixteen_bits_stay_dark():
    values = np.full((4, 6), 200, ">u2")
    assert not _grey(load_image(b"P5 6 4 65535\n" + values.tobytes())).max() > 1


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_what_resizing_adds_does_not_make_an_image_dark(white):
    values = RAMP.astype(np.float32) / 255 * white
    values.flat[0], values.flat[1] = 1.2 * white, -0.1 * white
    expected = RAMP.copy()
    expected.flat[0], expected.flat[1] = 255, 0
    assert np.array_equal(_grey(load_image(Image.fromarray(values))), expected)


@pytest.mark.parametrize("values", [RAMP.astype(np.int32) * 65536, RAMP.astype(np.float32) * 1000])
def test_values_of_which_none_is_known_to_be_white(values):
    with pytest.raises(OnnxplainError, match=r"^the PIL image has values to [\d.e+]+, and nothing says"):
        load_image(Image.fromarray(values))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    upright = PHOTO
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's Transpose that brings the upright picture to storage
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "photo.png"
    stored.save(file, exif=exif)
    assert np.array_equal(load_image(file), upright)


def _bomb() -> bytes:
    content = bytearray(_png(Image.new("1", (1, 1))))
    content[16:24] = (30000).to_bytes(4, "big") * 2  # the header's width and height
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


BAD_FILES = {
    "empty.png": b"",
    "text.jpg": b"this is no picture",
    "truncated.jpg": _png(PHOTO.resize((300, 200)), "JPEG")[:2000],
    "truncated.png": _png(PHOTO)[:200],
    "header.png": _png(PHOTO)[:20],
    "bomb.png": _bomb(),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(BAD_FILES[name])
    with pytest.raises(OnnxplainError) as error:
        load_image(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(OnnxplainError, match="the data given"):
        load_image(BAD_FILES[name])


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(OnnxplainError, match=r"there is no image file .*nothing.png"):
        load_image(tmp_path / "nothing.png")
    with pytest.raises(OnnxplainError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((3, 5, 6), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_of_another_shape_or_type(array):
    with pytest.raises(OnnxplainError, match=r"must be uint8 \[height, width\]"):
        load_image(array)


def test_things_that_are_no_image():
    with pytest.raises(OnnxplainError, match="got int"):
        load_image(3)
    with pytest.raises(OnnxplainError, match="no pixels"):
        load_image(Image.new("RGB", (0, 5)))
    with pytest.raises(OnnxplainError, match="not finite"):
        load_image(Image.fromarray(np.full((2, 2), np.nan, np.float32)))
