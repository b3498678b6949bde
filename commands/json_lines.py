"""The lines of explain --json: one JSON document for each image."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxplain.commands.products import Written
    from onnxplain.runtime import Explanation
    from onnxplain.runtime.pipeline import ByMethod


@dataclass(frozen=True)
class JsonLines:
    """What makes the lines, and prints them. docs/explain.schema.json describes them.

    Attributes:
        artifact: The file that explains.
        digest: Its SHA-256 digest.
    """

    artifact: Path
    digest: str

    def document(self, image: Path, results: "ByMethod", first: "Explanation | None" = None) -> dict[str, Any]:
        """What is said of an image that was explained, but for the files.

        Args:
            image: The image's name.
            results: By method the explanations, one for each class.
            first: An explanation of the image, which need not be among them; None for the first of them.
        """
        from onnxplain.runtime.summary import about_image, about_map

        items = [(key, item) for key, items in results.items() for item in items]
        return {
            "image": str(image),
            "artifact": str(self.artifact),
            "digest": self.digest,
            **about_image(first or items[0][1]),
            "explanations": [{"key": key, **about_map(item)} for key, item in items],
        }

    def explained(
        self, image: Path, results: "ByMethod", files: Sequence["Written"], first: "Explanation | None" = None
    ) -> None:
        """Print the line of an image that was explained; arguments are those of `document`."""
        listed = [
            {"path": str(file.path), "kind": file.kind, "key": file.method, "target": file.target, "scale": file.scale}
            for file in files
        ]
        _print({**self.document(image, results, first), "files": listed})

    def failed(self, image: Path, message: str) -> None:
        """Print the line of one that could not be; the message is that of standard error."""
        _print({"image": str(image), "artifact": str(self.artifact), "digest": self.digest, "error": message})


def as_line(document: Mapping[str, Any]) -> str:
    """On one line, in ASCII whatever the terminal's encoding; numbers are finite."""
    return json.dumps(document, allow_nan=False)


def _print(document: Mapping[str, Any]) -> None:
    print(as_line(document), flush=True)  # a program that reads them need not wait for those that follow
