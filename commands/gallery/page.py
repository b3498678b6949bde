"""The report's page: HTML with its style, script and numbers in it, and the images in folders beside it.

It works without a server, where scripts cannot read files: the numbers are a block of JSON in the page. It shows some
cards at a time, so that thousands of images stay quick.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from onnxplain.commands.find_images import counted
from onnxplain.commands.printable import printable
from onnxplain.commands.reporting import one_line

from .records import IMAGES, MAPS, THUMBNAILS, ImageRecord

if TYPE_CHECKING:
    from onnxplain.contract import Metadata

PARTS = files("onnxplain.commands.gallery")
GENERATOR = '<meta name="generator" content="onnxplain explain --report">'
"""By which a folder is known as a report."""
DIGITS = 6
"""Of numbers on the page; the CSV file has them all."""


def write_page(
    path: Path, images: Sequence[ImageRecord], artifact: Path, metadata: "Metadata", errors: Sequence[str]
) -> None:
    """Write the page.

    Args:
        path: The file; the images are in folders beside it.
        images: What is shown.
        artifact: The file that explains.
        metadata: Its metadata.
        errors: Why other images could not be explained.
    """
    style, script = ((PARTS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    known = sum(image.true is not None for image in images)
    about = f"{counted(len(images), 'image')}, explained by {artifact.name}"
    if known:
        about += f"; {'all' if known == len(images) else known} in folders with names of classes"
    text = Template((PARTS / "page.html").read_text(encoding="utf-8")).substitute(
        generator=GENERATOR,
        model=_text(metadata.model),
        about=_text(about),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_json(_data(images, metadata.labels)),
        errors=_errors(errors),
    )
    path.write_text(text, encoding="utf-8")


def _data(images: Sequence[ImageRecord], labels: Sequence[str]) -> dict[str, Any]:
    """The numbers, as short as can be: what page.js reads."""
    titles = list(dict.fromkeys(item.title for image in images for item in image.maps))
    places = {title: place for place, title in enumerate(titles)}
    used = {index for image in images for index, _ in image.predictions}
    used |= {item.target for image in images for item in image.maps}
    used |= {image.true for image in images if image.true is not None}
    rows = []
    for number, image in enumerate(images):
        for place, item in enumerate(image.maps):
            y, x = item.peak or (None, None)
            row = (number, place, places[item.title], item.target, _short(item.score), _short(item.probability), x, y)
            rows.append(row)
    return {
        "labels": {index: printable(labels[index]) for index in sorted(used)},
        "methods": titles,
        "images": [
            (printable(image.name), image.true, [(index, _short(share)) for index, share in image.predictions])
            for image in images
        ],
        "maps": rows,
        "folders": {"thumbnails": THUMBNAILS, "maps": MAPS, "images": IMAGES},
    }


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _json(data: Any) -> str:
    """JSON that ends no script element, whatever is in it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _text(text: str) -> str:
    return html.escape(printable(text))


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _errors(errors: Sequence[str]) -> str:
    if not errors:
        return ""
    lines = "".join(f"<li>{_text(one_line(line))}</li>" for line in errors)
    return f'<details class="errors"><summary>{counted(len(errors), "error")}</summary><ul>{lines}</ul></details>'
