"""What decides the rows of a batch. It is kept beside them, and a run with other settings is refused."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onnxplain.contract.digest import file_digest, stored_digest
from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.metadata import Metadata
from onnxplain.runtime.methods.choice import call_method
from onnxplain.runtime.targets import Target, resolve_target

KEPT = ("digest", "method", "target", "top_k", "max_pixels", "maps", "thumbnails")
"""The settings that rows depend on."""


@dataclass(frozen=True)
class Settings:
    """What is asked of every image.

    Attributes:
        artifact: The file.
        digest: Its SHA-256 digest, in hexadecimal.
        method: Its key, such as rollout or rollout:head_fusion=max.
        target: A class index, or a rank below 0.
        top_k: How many predictions a row lists.
        max_pixels: Larger images are refused.
        maps: Whether rows hold the map over the model's input as well.
        thumbnails: The longer side of the overlay in a row, in pixels; None for none.
    """

    artifact: str
    digest: str
    method: str
    target: int
    top_k: int
    max_pixels: int
    maps: bool = False
    thumbnails: int | None = None

    def kept(self) -> dict[str, Any]:
        """The settings that rows depend on, as JSON can hold them."""
        every = asdict(self)
        return {name: every[name] for name in KEPT}

    def check_same(self, text: str, folder: Path) -> None:
        """Raise OnnxplainError if a folder was begun with other settings.

        Args:
            text: What `kept` was then, as JSON.
            folder: The folder.
        """
        try:
            before = json.loads(text)
            before = {name: before[name] for name in KEPT}
        except (ValueError, KeyError, TypeError):
            raise OnnxplainError(f"{folder} holds the rows of another version; give another `output`") from None
        for name, value in self.kept().items():
            if before[name] != value:
                what = "an artifact with the digest" if name == "digest" else f"`{name}`"
                raise OnnxplainError(
                    f"{folder} was begun with {what} {before[name]}, not {value}; give another `output`"
                )


def settings_of(
    artifact: Path,
    metadata: Metadata,
    method: str | None,
    target: Target,
    top_k: int,
    max_pixels: int,
    maps: bool,
    thumbnails: int | None,
) -> Settings:
    """The settings, checked; raises OnnxplainError if the method or the target is not one of the artifact's."""
    call = call_method(method, {}, metadata)
    return Settings(
        str(artifact.absolute()),
        stored_digest(artifact) or file_digest(artifact),
        call.key,
        resolve_target(target, metadata.labels),
        min(top_k, len(metadata.labels)),
        max_pixels,
        maps,
        thumbnails,
    )


@dataclass(frozen=True)
class Opening:
    """How workers open the artifact: what rows do not depend on, but for rounding.

    Attributes:
        device: As Explainer takes it.
        threads: Of a worker; None for all cores.
        cache: As Explainer takes it, like those that follow.
        trust: Whether to open a .pt file.
        providers: onnxruntime's execution providers.
    """

    device: str = "auto"
    threads: int | None = None
    cache: bool = False
    trust: bool = False
    providers: list[Any] | None = None
