"""The files of figures: what is in them, that nothing is lost on the way, and that they are known as ours."""

import base64
import io
import re
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime.figures.canvas import Box, Canvas, Raster, Text
from onnxplain.runtime.figures.formats import FORMATS, check_format, encoded, to_image
from onnxplain.runtime.signature import image_options, is_signed

PIXELS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8))
CANVAS = Canvas(200, 100, [Raster(20, 40, PIXELS), Box(18, 38, 72, 72, "#ff0000", 2), Text(20, 30, "a & <b>", 18)])
ABOUT = {"Model": "m", "Class": "猫"}


def test_pixels_are_where_they_are_put():
    pixels = np.asarray(to_image(CANVAS))
    assert pixels.shape == (100, 200, 3)
    assert np.array_equal(pixels[40:70, 20:70], np.asarray(PIXELS))
    red = (pixels == (255, 0, 0)).all(-1)
    assert red[38:40, 18:72].all() and red[38:72, 70:72].all() and not red[72:].any() and not red[:, 72:].any()
    dark = (pixels < 100).all(-1)
    assert dark[15:32, 20:90].any() and not dark[:10].any() and not dark[:38, 100:].any()


@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_images_hold_the_figure(format, tmp_path):
    path = tmp_path / f"x.{format}"
    path.write_bytes(encoded(CANVAS, format, ABOUT))
    with Image.open(path) as image:
        difference = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(to_image(CANVAS), int))
        about = image.info.get("Class") or image.getexif()[0x010E].encode("latin-1").decode()
    assert difference.mean() < (1e-9 if format == "png" else 6) and "猫" in about
    assert is_signed(path)


def test_svg_has_text_as_text_and_the_image_as_it_is():
    root = ElementTree.fromstring(encoded(CANVAS, "svg", ABOUT))
    name = "{http://www.w3.org/2000/svg}"
    assert root.get("viewBox") == "0 0 200 100" and "猫" in root.findtext(f"{name}desc")
    assert root.findtext(f"{name}text") == "a & <b>"
    image = root.find(f"{name}image")
    assert (image.get("x"), image.get("y"), image.get("width"), image.get("height")) == ("20", "40", "50", "30")
    with Image.open(io.BytesIO(base64.b64decode(image.get("href").partition(",")[2]))) as picture:
        assert np.array_equal(picture, PIXELS)


def test_lines_are_drawn_in_every_format():
    """A box that is as thin as its pen is filled: an outline of no height is nothing in SVG."""
    canvas = Canvas(90, 30, [Box(10, 20, 80, 21, "#ff0000")])
    drawn = np.asarray(to_image(canvas))
    assert (drawn[20, 10:80] == (255, 0, 0)).all() and (drawn != 255).any(-1).sum() == 70
    (line,) = [item for item in ElementTree.fromstring(encoded(canvas, "svg", {})) if item.get("fill") == "#ff0000"]
    assert (line.get("x"), line.get("y"), line.get("width"), line.get("height")) == ("10", "20", "70", "1")


def test_pdf_is_a_page_of_the_figures_size_with_its_font_and_the_image_as_it_is():
    data = encoded(CANVAS, "pdf", ABOUT)
    assert data.startswith(b"%PDF") and re.search(rb"/MediaBox \[ 0 0 150 75 \]", data)
    assert b"Aileron" in data and b"/FontFile2" in data
    streams = [part.strip() for part in re.findall(rb"stream\r?\n(.*?)endstream", data, re.S)]
    coded = [base64.a85decode(part.removesuffix(b"~>")) if part.endswith(b"~>") else part for part in streams]
    decoded = [zlib.decompress(part) for part in coded]
    assert PIXELS.tobytes() in decoded


def test_an_image_can_be_a_figure_by_itself():
    for format in FORMATS:
        assert len(encoded(PIXELS, format, ABOUT)) > 500
    with Image.open(io.BytesIO(encoded(PIXELS, "png", {}))) as image:
        assert np.array_equal(image, PIXELS)


def test_formats_that_there_are_not():
    with pytest.raises(OnnxplainError, match=r"there is no format of figures 'jpeg'; .*did you mean 'jpg'"):
        check_format("jpeg")
    for format in FORMATS:
        check_format(format)


def test_what_is_signed(tmp_path):
    """In every format that is read as an image; and never what others have written."""
    for format in ("png", "jpg", "webp", "gif"):
        for name, options in (("ours", image_options(format, ABOUT)), ("theirs", {})):
            path = tmp_path / f"{name}.{format}"
            PIXELS.save(path, **options)
            assert is_signed(path) == (name == "ours"), path
        data = (tmp_path / f"ours.{format}").read_bytes()
        for length in range(0, min(len(data), 400), 7):  # cut short: an answer, and no exception
            (tmp_path / "cut").write_bytes(data[:length])
            is_signed(tmp_path / "cut")
    exif = Image.Exif()
    exif[0x0131] = "another program"
    PIXELS.save(tmp_path / "camera.jpg", exif=exif)
    assert not is_signed(tmp_path / "camera.jpg") and not is_signed(tmp_path / "none.jpg")
