"""The option --sweep of explain: one parameter of a method takes several values, shown as a strip or an animation."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
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
    from onnxplain.runtime.figures.canvas import Canvas
    from onnxplain.runtime.pipeline import ByMethod

ANIMATIONS = ("gif", "webp")
"""The formats of animations."""
SIDE = 640
"""The longer side of an image in an animation, in pixels, unless another is given: Pillow holds all frames."""
FRAME, LAST = 200, 1000
"""For how many milliseconds a frame of an animation is shown, and its last one."""
MOST = 200
"""Values of a sweep."""
DIGITS = 3
"""Of the values between the first and the last, at least."""
EXACT = 17
"""So many digits tell all numbers apart."""


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
    from onnxplain.runtime import METHODS
    from onnxplain.runtime.methods.calls import split_text

    name, equals, rest = (part.strip() for part in text.partition("="))
    known = {parameter.name: parameter for parameter in method.parameters}
    name = name.casefold().replace("-", "_")
    if not (name and equals and rest):
        raise OnnxplainError(
            f"--sweep must be PARAMETER=FIRST:LAST:COUNT, such as discard_ratio=0:0.95:20, or PARAMETER=VALUE,VALUE, "
            f"got {one_line(text)!r}"
        )
    if name not in known:
        has = f"it has: {', '.join(known)}" if known else "it has none"
        if not known and METHODS[method.name].parameters:
            has = "those of a plain artifact are fixed at export"
        raise OnnxplainError(f"method {method.name} has no parameter {name!r} to sweep; {has}{or_rather(name, known)}")
    if name in split_text(method_text)[1]:
        raise OnnxplainError(f"--sweep gives {name} its values; leave it out of --method {method_text}")
    whole = known[name].type is Integral
    values = list(dict.fromkeys(_between(rest, whole) if ":" in rest else [part.strip() for part in rest.split(",")]))
    if len(values) > MOST:
        raise OnnxplainError(f"--sweep takes at most {MOST} values, got {len(values)}")
    return Sweep(method_text, name, tuple(values))


def _between(text: str, whole: bool) -> list[str]:
    """So many values from the first to the last, which are as they were given; or whole numbers."""
    parts = [part.strip() for part in text.split(":")]
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
    step = (last - first) / (count - 1)
    values = [first + step * place for place in range(count - 1)] + [last]
    if whole:
        return [str(round(value)) for value in values]
    return [parts[0], *_rounded(values[1:-1], abs(step) / 10), parts[1]]


def _rounded(values: Sequence[float], error: float) -> list[str]:
    """The values, all with as few digits as make them no further off than that, but at least DIGITS."""
    for digits in range(DIGITS, EXACT):
        texts = [f"{value:.{digits}g}" for value in values]
        if all(abs(float(text) - value) <= error for text, value in zip(texts, values, strict=True)):
            return texts
    return [repr(value) for value in values]


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
                about=f"{row.about}, {_fixed(results, self.sweep.parameter)}",
                cells=[Cell(name, cell.content) for name, cell in zip(names, row.cells, strict=True)],
            )
            for row in rows_of(results)
        ]
        texts = about(results, next(iter(results.values())))
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
            frames = Frames(dict(zip(results, items, strict=True)), self.style)
            ending = f"{_method(results)}.{self.sweep.parameter}.{class_name(items[0])}"
            texts = about(results, items[:1])
            data = animated(frames, self.format, {key: printable(text) for key, text in texts.items()})
            folder, name = self.destination.folder_of(image), self.destination.name(image, ending)
            path = write_new(partial(_write, data), folder, name, f".{self.format}")
            files.append(Written(path, "sweep", None, items[0].target))
        return files


class Frames:
    """Figures of one class, each drawn when it is asked for, on paper of one size: all together need not be held."""

    def __init__(self, items: Mapping[str, "Explanation"], style: "Style") -> None:
        """`items`: By the methods' keys."""
        from onnxplain.runtime.figures.figure import fitted, resized
        from onnxplain.runtime.figures.scale import find_scale, shared_scales

        every = list(items.values())
        scales = shared_scales(every) if style.scale == "shared" else [find_scale(item) for item in every]
        side = style.max_size or SIDE
        self._style = replace(style, max_size=side)
        small = resized(every[0], fitted(every[0].image.size, 1, side))
        shown = (replace(item, image=small.image, placement=small.placement) for item in every)
        self._items = list(zip(items, shown, scales, strict=True))
        # Each is drawn once more here, which takes less than to hold them all
        sizes = [(figure.width, figure.height) for figure in map(self._figure, range(len(self)))]
        self.size = max(width for width, _ in sizes), max(height for _, height in sizes)

    def _figure(self, place: int) -> "Canvas | Image.Image":
        from onnxplain.runtime.figures.figure import figure_of
        from onnxplain.runtime.figures.sheet import method_in_words

        key, item, scale = self._items[place]
        return figure_of(item, self._style, scale, method_in_words(key, item))

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator["Image.Image"]:
        from PIL import Image

        from onnxplain.runtime.figures.canvas import PAPER
        from onnxplain.runtime.figures.formats import to_image

        for place in range(len(self)):
            figure = self._figure(place)
            frame = Image.new("RGB", self.size, PAPER)
            frame.paste(figure if isinstance(figure, Image.Image) else to_image(figure))
            yield frame


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def animated(frames: Frames, format: str, texts: dict[str, str]) -> bytes:
    """Frames as an animation that begins anew at its end."""
    from onnxplain.runtime.figures.formats import QUALITY
    from onnxplain.runtime.signature import image_options

    durations = [FRAME] * (len(frames) - 1) + [LAST]
    options = {"quality": QUALITY} if format == "webp" else {}
    images = map(_in_256_colours, frames) if format == "gif" else iter(frames)
    stream = io.BytesIO()
    next(images).save(
        stream, format, save_all=True, append_images=images, duration=durations, loop=0, **options,
        **image_options(format, texts),
    )  # fmt: skip
    return stream.getvalue()


def _in_256_colours(frame: "Image.Image") -> "Image.Image":
    """Spread evenly, and dots of them in between: else maps would have steps."""
    from PIL import Image

    return frame.quantize(palette=frame.quantize(method=Image.Quantize.FASTOCTREE))


def _fixed(results: "ByMethod", parameter: str) -> str:
    """The method with those of its other parameters that are not the defaults."""
    item = next(iter(results.values()))[0]
    rest = {name: value for name, value in item.parameters.items() if name != parameter}
    return replace(item, parameters=rest).title


def _method(results: "ByMethod") -> str:
    """The method that is swept, as names of files call it."""
    return method_name(next(iter(results.values()))[0].method)
