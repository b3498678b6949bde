"""What explain makes of each image's explanations: products, each of which writes files of one kind."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from onnxplain.commands.destination import Destination
from onnxplain.commands.display import slug
from onnxplain.commands.new_file import write_new
from onnxplain.commands.printable import printable

if TYPE_CHECKING:
    from PIL import Image

    from onnxplain.runtime import Explanation, Style
    from onnxplain.runtime.figures.canvas import Canvas
    from onnxplain.runtime.pipeline import ByMethod


class Written(NamedTuple):
    """A file that was written about an image.

    Attributes:
        path: The file.
        kind: What it is: `figure`, `sheet`, `models`, `sweep` or `map`.
        method: The method that it shows; None if it shows all.
        target: The index of the class that it shows; None if it shows all.
        scale: The values of black and white in a map as a grey image; else None.
    """

    path: Path
    kind: str
    method: str | None = None
    target: int | None = None
    scale: tuple[float, float] | None = None


class Product(ABC):
    """What is made of the explanations of every image."""

    @abstractmethod
    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """Write the files about one image. Called in a thread of its own, for one image after the other.

        Args:
            image: The image's name.
            results: Its explanations: by method one for each class.

        Raises:
            OSError: If a file cannot be written; `filename` is the file's. The image then counts as failed.
        """

    def finish(self) -> list[Path]:
        """Write what is about all images, when all of them are done; the files. Raises OSError likewise."""
        return []


def write_all(products: Sequence[Product], image: Path, results: "ByMethod") -> list[Written]:
    """What all of the products write about an image, see Product."""
    return [file for product in products for file in product.write(image, results)]


@dataclass(frozen=True)
class Figures(Product):
    """A file for each method and class, drawn in that style and written in that format."""

    destination: Destination
    style: "Style"
    format: str

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product."""
        from onnxplain.runtime.figures.figure import figure_of
        from onnxplain.runtime.figures.scale import shared_scales

        every = [(method, item) for method, items in results.items() for item in items]
        shared = self.style.scale == "shared"
        scales = shared_scales(item for _, item in every) if shared else [None] * len(every)
        files = []
        for (method, item), scale in zip(every, scales, strict=True):
            name = self.destination.name(image, f"{method_name(method)}.{class_name(item)}")
            figure = figure_of(item, self.style, scale)
            texts = about({method: [item]}, [item])
            path = save_figure(figure, self.format, texts, self.destination.folder_of(image), name)
            files.append(Written(path, "figure", method, item.target))
        return files


@dataclass(frozen=True)
class Sheet(Product):
    """A file for each image, which compares all methods and classes."""

    destination: Destination
    style: "Style"
    format: str

    def write(self, image: Path, results: "ByMethod") -> list[Written]:
        """See Product."""
        from onnxplain.runtime.figures.sheet import rows_of, sheet_of

        texts = about(results, next(iter(results.values())))
        name = self.destination.name(image, "sheet")
        sheet = sheet_of(rows_of(results), self.style)
        path = save_figure(sheet, self.format, texts, self.destination.folder_of(image), name)
        return [Written(path, "sheet")]


def method_name(key: str) -> str:
    """How names of files call the method: parameters behind it stand behind hyphens."""
    return key.replace(":", "-").replace(",", "-")


def class_name(explanation: "Explanation") -> str:
    """How names of files call the class."""
    return slug(explanation.label) or f"class-{explanation.target}"


def about(results: "ByMethod", classes: Sequence["Explanation"]) -> dict[str, str]:
    """What a file says about itself: the model, the methods with their parameters, and the classes."""
    from onnxplain.runtime.figures.sheet import method_in_words

    labels = "; ".join(item.label for item in classes)
    methods = ", ".join(method_in_words(key, items[0]) for key, items in results.items())
    return {"Model": classes[0].model, "Method": methods, "Class": labels}


def save_figure(figure: "Canvas | Image.Image", format: str, texts: Mapping[str, str], folder: Path, name: str) -> Path:
    """Write a figure as a new file, see `write_new`; `texts`: what it says about itself, by keyword."""
    from onnxplain.runtime.figures.formats import encoded

    about = {keyword: printable(text) for keyword, text in texts.items()}
    data = encoded(figure, format, about)
    return write_new(lambda path: path.write_bytes(data), folder, name, f".{format}")
