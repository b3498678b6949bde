"""The file formats of figures: images by Pillow, and SVG and PDF with text as text and lines as lines."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from PIL import Image, ImageDraw

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import no_such

from ..signature import MAKER, about_line, image_options
from .canvas import PAPER, Box, Canvas, Raster, Text, font, font_file

ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # on the baseline, as Pillow calls them
FAMILY = "Aileron, Helvetica, Arial, sans-serif"
POINTS = 72 / 96  # of a pixel, in PDF
PNG_LEVEL = 1  # for a photograph five times as fast as the default, and the file a tenth larger
QUALITY = 92  # of JPEG and WebP: no blocks around letters
PIXELS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": PNG_LEVEL},
    "jpg": {"format": "JPEG", "quality": QUALITY, "subsampling": 0},
    "webp": {"format": "WEBP", "quality": QUALITY},
}
"""The formats of pixels, with the options of Pillow's `save`."""
FORMATS = (*PIXELS, "pdf", "svg")


def check_format(format: str, more: Sequence[str] = ()) -> None:
    """Raise OnnxplainError if there is no such format, here or among `more`, or if what writes it is not installed."""
    known = [*FORMATS, *more]
    if format not in known:
        raise OnnxplainError(no_such("format of figures", format, known, {"jpeg": ("jpg",)}))
    if format == "pdf":
        try:
            import reportlab  # noqa: F401
        except ImportError:
            raise OnnxplainError("figures in pdf need reportlab: pip install 'onnxplain[pdf]'") from None


def encoded(figure: Canvas | Image.Image, format: str, about: Mapping[str, str]) -> bytes:
    """A figure as the bytes of a file, the same each time.

    Args:
        figure: A figure, or an image that is one by itself.
        format: One of FORMATS.
        about: What it shows, by keyword; text without control characters and lone surrogates.
    """
    if format not in PIXELS:
        canvas = figure if isinstance(figure, Canvas) else Canvas(*figure.size, [Raster(0, 0, figure)])
        return to_svg(canvas, about) if format == "svg" else to_pdf(canvas, about)
    image = figure if isinstance(figure, Image.Image) else to_image(figure)
    stream = io.BytesIO()
    image.save(stream, **PIXELS[format], **image_options(format, about))
    return stream.getvalue()


def to_image(canvas: Canvas) -> Image.Image:
    """The figure as an RGB image."""
    image = Image.new("RGB", (canvas.width, canvas.height), PAPER)
    draw = ImageDraw.Draw(image)
    for item in canvas.items:
        match item:
            case Raster(x, y, pixels):
                image.paste(pixels, (x, y))
            case Box(left, top, right, bottom, colour) if item.is_line:
                draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
            case Box(left, top, right, bottom, colour, pen):
                draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=pen)
            case Text(x, y, text, size, colour, anchor):
                draw.text((x, y), text, colour, font(size), anchor=ANCHORS[anchor])
    return image


def to_svg(canvas: Canvas, about: Mapping[str, str]) -> bytes:
    """The figure in SVG, images embedded as PNG."""
    width, height = canvas.width, canvas.height
    root = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}")
    root.attrib |= {"width": str(width), "height": str(height)}
    ElementTree.SubElement(root, "desc").text = about_line(dict((MAKER, *about.items())))
    _shape(root, "rect", 0, 0, width=width, height=height, fill=PAPER)
    for item in canvas.items:
        match item:
            case Raster(x, y, image):
                data = f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"
                _shape(root, "image", x, y, width=image.width, height=image.height, href=data)
            case Box(left, top, right, bottom, colour) if item.is_line:
                _shape(root, "rect", left, top, width=right - left, height=bottom - top, fill=colour)
            case Box(left, top, right, bottom, colour, pen):
                size = {"width": right - left - pen, "height": bottom - top - pen}
                _shape(
                    root, "rect", left + pen / 2, top + pen / 2, **size, fill="none", stroke=colour, stroke_width=pen
                )
            case Text(x, y, text, size, colour, anchor):
                letters = _shape(
                    root, "text", x, y, font_family=FAMILY, font_size=size, fill=colour, text_anchor=anchor
                )
                letters.text = text
    ElementTree.indent(root)
    stream = io.BytesIO()
    ElementTree.ElementTree(root).write(stream, encoding="utf-8", xml_declaration=True)
    return stream.getvalue() + b"\n"


def _shape(root: ElementTree.Element, name: str, x: float, y: float, **attributes: float | str) -> ElementTree.Element:
    texts = {
        key.replace("_", "-"): value if isinstance(value, str) else f"{value:g}"
        for key, value in {"x": x, "y": y, **attributes}.items()
    }
    return ElementTree.SubElement(root, name, texts)


def to_pdf(canvas: Canvas, about: Mapping[str, str]) -> bytes:
    """The figure in PDF, a page of its size, with the font embedded."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas as Page

    name = "Aileron"
    if name not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(name, io.BytesIO(font_file())))
    stream = io.BytesIO()
    page = Page(stream, (canvas.width * POINTS, canvas.height * POINTS), invariant=True)  # the same bytes every time
    page.setProducer(MAKER[1])
    page.setSubject(about_line(about))
    page.scale(POINTS, POINTS)
    for item in canvas.items:  # of PDF the lower left corner is the first
        match item:
            case Raster(x, y, image):
                page.drawImage(ImageReader(image), x, canvas.height - y - image.height, image.width, image.height)
            case Box(left, top, right, bottom, colour) if item.is_line:
                page.setFillColor(colour)
                page.rect(left, canvas.height - bottom, right - left, bottom - top, stroke=0, fill=1)
            case Box(left, top, right, bottom, colour, pen):
                page.setStrokeColor(colour)
                page.setLineWidth(pen)
                corner = (left + pen / 2, canvas.height - bottom + pen / 2)
                page.rect(*corner, right - left - pen, bottom - top - pen)
            case Text(x, y, text, size, colour, anchor):
                draw = {"start": page.drawString, "middle": page.drawCentredString, "end": page.drawRightString}
                page.setFillColor(colour)
                page.setFont(name, size)
                draw[anchor](x, canvas.height - y, text)
    page.save()
    return stream.getvalue()


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
