"""The option --sweep of explain: one parameter of a method takes several values, shown as a strip or an animation."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from onnxplain.commands.destination import Destination
from onnxplain.commands.new_file import write_new
from onnxplain.commands.printable import printable
from onnxplain.commands.products import Product, Written, about, class_name, method_name, save_figure
from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.contract.names import or_rather

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.runtime import Explanation, Method, Style
    from onnxplain.runtime.pipeline import ByMethod

ANIMATIONS = ("gif", "webp")
"""The formats of animations."""
FRAME, LAST = 200, 1000
"""For how many milliseconds a frame of an animation is shown, and its last one."""
MOST = 200
"""Values of a sweep."""
DIGITS = 3
"""To which values between the first and the last are rounded."""


@dataclass(frozen=True)
class Sweep:
    """A parameter of a method, and its values.

    Attributes:
        method: The method, with other parameters behind its name or without.
        parameter: The parameter's name.
        values: Texts, in order.
    """

    method: str
    parameter: str
    values: tuple[str, ...]

    @property
    def methods(self) -> list[str]:
        """The method once for each value."""
        joint = "," if ":" in self.method else ":"
        return [f"{self.method}{joint}{self.parameter}={value}" for value in self.values]


def parse_sweep(text: str, method_text: str, method: "Method") -> Sweep:
    """A sweep of one of the method's parameters, as it stands on the command line.

    Args:
        text: PARAMETER=FIRST:LAST:COUNT, or PARAMETER=VALUE,VALUE,…; whole numbers are rounded, and each stands once.
        method_text: The method as the user names it.
        method: Its row.

    Raises:
        OnnxplainError: If the text is neither, or the method has no such parameter.
    """
    name, equals, rest = (part.strip() for part in text.partition("="))
    known = {parameter.name: parameter for parameter in method.parameters}
    name = name.replace("-", "_")
    if not (name and equals and rest):
        raise OnnxplainError(
            f"--sweep must be PARAMETER=FIRST:LAST:COUNT, such as discard_ratio=0:0.95:20, or PARAMETER=VALUE,VALUE, "
            f"got {one_line(text)!r}"
        )
    if name not in known:
        has = f"it has: {', '.join(known)}" if known else "it has none"
        raise OnnxplainError(f"method {method.name} has no parameter {name!r} to sweep; {has}{or_rather(name, known)}")
    values = _between(rest) if ":" in rest else [part.strip() for part in rest.split(",")]
    if known[name].type is Integral and ":" in rest:
        values = [str(round(float(value))) for value in values]
    values = list(dict.fromkeys(values))
    if len(values) > MOST:
        raise OnnxplainError(f"--sweep takes at most {MOST} values, got {len(values)}")
    return Sweep(method_text, name, tuple(values))


def _between(text: str) -> list[str]:
    """So many values from the first to the last."""
    parts = text.split(":")
    try:
        first, last = map(float, parts[:2])
        (count,) = map(int, parts[2:])
        if not (math.isfinite(first) and math.isfinite(last) and 2 <= count <= MOST):
            raise ValueError
    except ValueError:
        raise OnnxplainError(
            f"the values of --sweep must be FIRST:LAST:COUNT, two numbers and a whole number from 2 to {MOST}, "
            f"got {one_line(text)!r}"
        ) from None
    return [f"{first + (last - first) * place / (count - 1):.{DIGITS}g}" for place in range(count)]


@dataclass(frozen=True)
class Strip(Product):
    """A sheet for each image: a row for each class, with the map of each value under it."""

    destination: Destination
    style: "Style"
    format: str
    sweep: Sweep

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product."""
        from onnxplain.runtime.figures.sheet import Cell, rows_of, sheet_of

        names = [f"{self.sweep.parameter}={value}" for value in self.sweep.values]
        rows = [
            replace(
                row,
                about=f"{row.about}, {self.sweep.method}",
                cells=[Cell(name, cell.content) for name, cell in zip(names, row.cells, strict=True)],
            )
            for row in rows_of(results)
        ]
        texts = about(list(results), next(iter(results.values())))
        name = self.destination.name(image, f"{_method(results)}.{self.sweep.parameter}.sweep")
        path = save_figure(sheet_of(rows, self.style), self.format, texts, self.destination.folder_of(image), name)
        return [Written(path, "sweep")]


@dataclass(frozen=True)
class Animation(Product):
    """An animation for each image and class: a figure for each value."""

    destination: Destination
    style: "Style"
    format: str
    sweep: Sweep

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product."""
        files = []
        for items in zip(*results.values(), strict=True):
            frames = self._frames(dict(zip(results, items, strict=True)))
            ending = f"{_method(results)}.{self.sweep.parameter}.{class_name(items[0])}"
            texts = about(list(results), items[:1])
            data = animated(frames, self.format, {key: printable(text) for key, text in texts.items()})
            folder, name = self.destination.folder_of(image), self.destination.name(image, ending)
            path = write_new(partial(_write, data), folder, name, f".{self.format}")
            files.append(Written(path, "sweep", None, items[0].target))
        return files

    def _frames(self, items: Mapping[str, "Explanation"]) -> list["Image.Image"]:
        """The figures by the methods' keys, on paper of one size."""
        from PIL import Image

        from onnxplain.runtime.figures.canvas import PAPER
        from onnxplain.runtime.figures.figure import figure_of
        from onnxplain.runtime.figures.formats import to_image
        from onnxplain.runtime.figures.scale import shared_scales
        from onnxplain.runtime.figures.sheet import method_in_words

        scales = shared_scales(items.values()) if self.style.scale == "shared" else [None] * len(items)
        figures = []
        for (key, item), scale in zip(items.items(), scales, strict=True):
            figure = figure_of(item, self.style, scale, method_in_words(key, item))
            figures.append(figure if isinstance(figure, Image.Image) else to_image(figure))
        size = max(figure.width for figure in figures), max(figure.height for figure in figures)
        frames = [Image.new("RGB", size, PAPER) for _ in figures]
        for frame, figure in zip(frames, figures, strict=True):
            frame.paste(figure)
        return frames


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def animated(frames: Sequence["Image.Image"], format: str, texts: dict[str, str]) -> bytes:
    """Frames of one size as an animation that begins anew at its end."""
    from PIL import Image

    from onnxplain.runtime.figures.formats import QUALITY
    from onnxplain.runtime.signature import image_options

    durations = [FRAME] * (len(frames) - 1) + [LAST]
    options = {"quality": QUALITY} if format == "webp" else {}
    if format == "gif":  # 256 colours spread evenly, and dots of them in between: else maps would have steps
        palettes = [frame.quantize(method=Image.Quantize.FASTOCTREE) for frame in frames]
        frames = [frame.quantize(palette=palette) for frame, palette in zip(frames, palettes, strict=True)]
    stream = io.BytesIO()
    frames[0].save(
        stream, format, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options,
        **image_options(format, texts),
    )  # fmt: skip
    return stream.getvalue()


def _method(results: "ByMethod") -> str:
    """The method that is swept, as names of files call it."""
    return method_name(next(iter(results.values()))[0].method)
