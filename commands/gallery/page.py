"""The report's page: HTML with its style, script and numbers in it, and the images in folders beside it.

It works without a server, where scripts cannot read files: the numbers are a block of JSON in the page. It shows some
cards at a time, so that thousands of pictures stay quick.
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

from .records import MAPS, PICTURES, THUMBNAILS, PictureRecord

if TYPE_CHECKING:
    from onnxplain.contract import Metadata

PARTS = files("onnxplain.commands.gallery")
GENERATOR = '<meta name="generator" content="onnxplain explain --report">'
"""By which a folder is known as a report."""
DIGITS = 6
"""Of numbers on the page; the CSV file has them all."""


def write_page(
    path: Path, pictures: Sequence[PictureRecord], artifact: Path, metadata: "Metadata", errors: Sequence[str]
) -> None:
    """Write the page.

    Args:
        path: The file; the images are in folders beside it.
        pictures: What is shown.
        artifact: The file that explains.
        metadata: Its metadata.
        errors: Why other pictures could not be explained.
    """
    style, script = ((PARTS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    known = sum(picture.true is not None for picture in pictures)
    about = f"{counted(len(pictures), 'picture')}, explained by {artifact.name}"
    if known:
        about += f"; {'all' if known == len(pictures) else known} in folders with names of classes"
    text = Template((PARTS / "page.html").read_text(encoding="utf-8")).substitute(
        generator=GENERATOR,
        model=_text(metadata.model),
        about=_text(about),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=_json(_data(pictures, metadata.labels)),
        errors=_errors(errors),
    )
    path.write_text(text, encoding="utf-8")


def _data(pictures: Sequence[PictureRecord], labels: Sequence[str]) -> dict[str, Any]:
    """The numbers, as short as can be: what page.js reads."""
    titles = list(dict.fromkeys(item.title for picture in pictures for item in picture.maps))
    places = {title: place for place, title in enumerate(titles)}
    used = {index for picture in pictures for index, _ in picture.predictions}
    used |= {item.target for picture in pictures for item in picture.maps}
    used |= {picture.true for picture in pictures if picture.true is not None}
    rows = []
    for number, picture in enumerate(pictures):
        for place, item in enumerate(picture.maps):
            y, x = item.peak or (None, None)
            row = (number, place, places[item.title], item.target, _short(item.score), _short(item.probability), x, y)
            rows.append(row)
    return {
        "labels": {index: printable(labels[index]) for index in sorted(used)},
        "methods": titles,
        "pictures": [
            (printable(picture.name), picture.true, [(index, _short(share)) for index, share in picture.predictions])
            for picture in pictures
        ],
        "maps": rows,
        "folders": {"thumbnails": THUMBNAILS, "maps": MAPS, "pictures": PICTURES},
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
