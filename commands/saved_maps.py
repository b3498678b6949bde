"""Files with the maps themselves, which explain --save writes for other programs."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxplain.commands.destination import Destination
from onnxplain.commands.json_lines import JsonLines, as_line
from onnxplain.commands.new_file import write_new
from onnxplain.commands.printable import printable
from onnxplain.commands.products import Product, Written, about, class_name, method_name
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import no_such

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from onnxplain.runtime import Explanation
    from onnxplain.runtime.pipeline import ByMethod

    Map = NDArray[np.float32]

FORMATS = ("npz", "npy", "png16")
WHITE = 65535
"""The greatest value of 16 bits."""


def check_format(format: str | None) -> None:
    """Raise OnnxplainError if maps cannot be saved in that format."""
    if format is not None and format not in FORMATS:
        raise OnnxplainError(no_such("format of maps", format, FORMATS, {"png": ("png16",), "numpy": ("npz", "npy")}))


def saved_maps(format: str, destination: Destination, lines: JsonLines) -> Product:
    """The product of that format."""
    return Archive(destination, lines) if format == "npz" else MapFiles(destination, format)


@dataclass(frozen=True)
class Archive(Product):
    """An .npz file for each image, with the maps of all methods and classes.

    Its arrays are `heatmap`, float32 [methods, classes, height, width], `input_heatmap` [methods, classes, H, W],
    `tokens` [methods, classes, h, w], `methods`, their keys, `targets`, int64, the classes' indices, and `about`, the
    JSON document that --json prints, but for its files.
    """

    destination: Destination
    lines: JsonLines

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product."""
        name, folder = self.destination.name(image, "maps"), self.destination.folder_of(image)
        return [Written(write_new(lambda path: self._write(path, image, results), folder, name, ".npz"), "map")]

    def _write(self, path: Path, image: Path, results: "ByMethod") -> None:
        import numpy as np

        rows = list(results.values())
        items = [item for row in rows for item in row]
        maps: dict[str, Callable[[Explanation], Map]] = {
            "heatmap": _whole_map,
            "input_heatmap": lambda item: item.input_heatmap,
            "tokens": lambda item: item.tokens,
        }
        texts = {
            "methods": np.array(list(results)),
            "targets": np.array([item.target for item in rows[0]], np.int64),
            "about": np.array(as_line(self.lines.document(image, results))),
        }
        with zipfile.ZipFile(path, "w") as archive:
            for name, map_of in maps.items():
                _add(archive, name, map(map_of, items), (len(rows), len(rows[0])))
            for name, array in texts.items():
                _add(archive, name, [array], ())


def _add(archive: zipfile.ZipFile, name: str, parts: "Iterable[NDArray[Any]]", leading: tuple[int, ...]) -> None:
    """Write parts of one shape as one array with these leading axes, one by one: together they may fill the memory."""
    import numpy as np

    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        for number, part in enumerate(parts):
            if number == 0:
                header = np.lib.format.header_data_from_array_1_0(part)
                shape = (*leading, *part.shape)
                np.lib.format.write_array_header_2_0(file, {**header, "shape": shape, "fortran_order": False})
            file.write(part.tobytes())


@dataclass(frozen=True)
class MapFiles(Product):
    """A file for each method and class, with the map over the image.

    As npy an array, float32 [height, width]. As png16 a grey PNG of 16 bits, black at the map's minimum and white at
    its maximum, which its texts `Low` and `High` say, and the JSON document as `scale`.
    """

    destination: Destination
    format: str

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product."""
        folder, files = self.destination.folder_of(image), []
        for method, items in results.items():
            for item in items:
                values, texts, scale = _whole_map(item), about({method: [item]}, [item]), None
                save, suffix = partial(_write_array, values), ".npy"
                if self.format == "png16":
                    scale = float(values.min()), float(values.max())
                    save, suffix = partial(_write_grey, values, *scale, texts), ".map.png"
                name = self.destination.name(image, f"{method_name(method)}.{class_name(item)}")
                path = write_new(save, folder, name, suffix)
                files.append(Written(path, "map", method, item.target, scale))
        return files


def _write_array(values: "Map", path: Path) -> None:
    import numpy as np

    np.save(path, values, allow_pickle=False)


def _write_grey(values: "Map", low: float, high: float, texts: dict[str, str], path: Path) -> None:
    import numpy as np
    from PIL import Image

    from onnxplain.runtime.figures.formats import PNG_LEVEL
    from onnxplain.runtime.images.geometry import bands
    from onnxplain.runtime.signature import image_options

    grey = np.empty(values.shape, np.uint16)
    for rows in bands(0, *values.shape):
        grey[rows] = np.rint((values[rows].astype(np.float64) - low) / ((high - low) or 1.0) * WHITE)
    texts = {**texts, "Low": repr(low), "High": repr(high)}
    options = image_options("png", {keyword: printable(text) for keyword, text in texts.items()})
    Image.fromarray(grey).save(path, compress_level=PNG_LEVEL, **options)


def _whole_map(explanation: "Explanation") -> "Map":
    """The map over the image, of a copy, as the explanation itself would keep it: of a photograph 4 bytes a pixel."""
    return replace(explanation).heatmap
