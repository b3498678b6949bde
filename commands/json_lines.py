"""The lines of explain --json: one JSON document for each image."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxplain.commands.products import Written
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

    def document(self, image: Path, results: "ByMethod") -> dict[str, Any]:
        """What is said of an image that was explained, but for the files."""
        from onnxplain.runtime.summary import about_image, about_map

        items = [item for items in results.values() for item in items]
        return {
            "image": str(image),
            "artifact": str(self.artifact),
            "digest": self.digest,
            **about_image(items[0]),
            "explanations": [about_map(item) for item in items],
        }

    def explained(self, image: Path, results: "ByMethod", files: Sequence["Written"]) -> None:
        """Print the line of an image that was explained."""
        listed = [{**file._asdict(), "path": str(file.path)} for file in files]
        _print({**self.document(image, results), "files": listed})

    def failed(self, image: Path, message: str) -> None:
        """Print the line of one that could not be; the message is that of standard error."""
        _print({"image": str(image), "artifact": str(self.artifact), "digest": self.digest, "error": message})


def as_line(document: Mapping[str, Any]) -> str:
    """On one line, in ASCII whatever the terminal's encoding; numbers are finite."""
    return json.dumps(document, allow_nan=False)


def _print(document: Mapping[str, Any]) -> None:
    print(as_line(document), flush=True)  # a program that reads them need not wait for those that follow
