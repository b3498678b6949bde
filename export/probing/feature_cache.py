"""The features of images, and a file that keeps them.

The file is in safetensors format: ``features`` [images, width], and ``sample`` [width], the features of one fixed image
of noise, all float32. Its metadata are ``onnxplain_features`` the version, ``model`` a checksum of weights, pooling and
preprocessing, ``images``, a JSON list of the SHA-256 of each image file, and ``sha256``, of the features and that list.
Features are taken from the file only if the version, the model and the sample agree; except for rounding, they are then
what the model would compute again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onnxplain.contract import OnnxplainError
from onnxplain.contract.digest import file_digest
from onnxplain.contract.errors import naming
from onnxplain.runtime import load_image, preprocess
from onnxplain.runtime.files import check_file

from ..atomic_files import atomic_file
from ..models.backbones import Backbone
from ..models.seeding import SEED

VERSION = "3"
"""Files of another version are replaced."""
BATCH = 32
"""How many images the model is run on at once."""
TOLERANCE = 1e-4
"""How much the features of the noise may differ, relative to the largest: rounding depends on the threads."""

Progress = Callable[[str, int, int], None]
"""Called with a description of the stage, how much of it is done, and how much there is to do."""


@dataclass(frozen=True)
class ImageFeatures:
    """Features of images.

    Attributes:
        features: Of each image that can be read, float32 [width].
        checksums: The SHA-256 of each of these files.
        unreadable: What is wrong with each of the others; the message names the file.
    """

    features: dict[Path, NDArray[np.float32]]
    checksums: dict[Path, str]
    unreadable: dict[Path, str]


class FeatureStore:
    """Features of images by the SHA-256 of their files, kept in a file.

    Args:
        backbone: The model, from ``load_features``.
        path: The file, made when there is something to keep. What it holds counts only if it is of this model.

    Attributes:
        computed: How many features were not in the file.

    Raises:
        OnnxplainError: If the file is something else, or damaged.
    """

    def __init__(self, backbone: Backbone, path: Path) -> None:
        self._backbone, self._path = backbone, path
        self._model = _checksum(backbone)
        height, width = backbone.preprocessing.size
        noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(SEED))
        self._sample = self._run(noise)[0]
        self._known = self._read()
        self.computed = 0

    def features(self, images: Sequence[Path], progress: Progress) -> ImageFeatures:
        """The features of images.

        Those that are not in the file are computed and written to it, also if the work is interrupted.

        Args:
            images: Files.
            progress: Called with how many of them are done.

        Raises:
            OnnxplainError: If features are not finite.
        """
        checksums: dict[Path, str] = {}
        unreadable: dict[Path, str] = {}
        pending: dict[str, NDArray[np.float32]] = {}
        before = len(self._known)
        try:
            for done, path in enumerate(images):
                progress("features", done, len(images))
                try:
                    digest = file_digest(path)
                    if digest not in self._known and digest not in pending:
                        pending[digest] = preprocess(load_image(path), self._backbone.preprocessing)[0]
                    checksums[path] = digest
                except OnnxplainError as error:
                    unreadable[path] = naming(path, error)
                except OSError as error:
                    unreadable[path] = f"{path} cannot be read: {error.strerror or error}"
                if len(pending) == BATCH:
                    self._compute(pending)
            self._compute(pending)
        finally:
            self.computed += len(self._known) - before
            if len(self._known) > before:
                self._write()
        features = {path: self._known[digest].numpy() for path, digest in checksums.items()}
        wrong = next((path for path, values in features.items() if not np.isfinite(values).all()), None)
        if wrong is not None:
            raise OnnxplainError(f"the features that {self._backbone.name} gives of {wrong} are not finite")
        return ImageFeatures(features, checksums, unreadable)

    def _compute(self, pending: dict[str, NDArray[np.float32]]) -> None:
        """Compute the features of preprocessed images by their checksums, and empty ``pending``."""
        if pending:
            features = self._run(torch.from_numpy(np.stack(list(pending.values()))))
            self._known.update(zip(pending, features, strict=True))
            pending.clear()

    def _run(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            features: Tensor = self._backbone.model(pixels)
            return features.float()

    def _read(self) -> dict[str, Tensor]:
        """The features in the file by the checksum of their image, none if they are of another model."""
        if not self._path.exists():
            return {}
        check_file(self._path, "a cache of features", f"there is no {self._path}")
        try:
            with safe_open(self._path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata["onnxplain_features"] != VERSION:
                    return {}
                if metadata["model"] != self._model or not self._is_same_model(file.get_tensor("sample")):
                    return {}
                features = file.get_tensor("features")
                if features.dtype != torch.float32:
                    raise KeyError("features")
                if metadata["sha256"] != _digest(features, metadata["images"]):
                    raise OnnxplainError(f"{self._path} is damaged; give another `cache`, or remove it")
                return dict(zip(json.loads(metadata["images"]), features, strict=True))
        except OnnxplainError:
            raise
        except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
            raise OnnxplainError(f"{self._path} is no cache of features; give another `cache`, or remove it") from error

    def _is_same_model(self, sample: Tensor) -> bool:
        """Whether the model computes what it did: weights do not tell, for example, how many heads there are."""
        largest = float(self._sample.abs().max())
        if (sample.shape, sample.dtype) != (self._sample.shape, self._sample.dtype):
            return False
        return torch.allclose(sample, self._sample, rtol=0, atol=TOLERANCE * largest)

    def _write(self) -> None:
        features, images = torch.stack(list(self._known.values())), json.dumps(list(self._known))
        metadata = {
            "onnxplain_features": VERSION,
            "model": self._model,
            "images": images,
            "sha256": _digest(features, images),
        }
        tensors = {"features": features, "sample": self._sample}
        with atomic_file(self._path) as temporary:
            save_file(tensors, temporary, metadata)


def _digest(features: Tensor, images: str) -> str:
    """SHA-256 of the features and of the list of their images."""
    digest = hashlib.sha256(features.contiguous().numpy())  # type: ignore[arg-type]  # any buffer
    digest.update(images.encode())
    return digest.hexdigest()


def _checksum(backbone: Backbone) -> str:
    """SHA-256 of weights, pooling and preprocessing."""
    digest = hashlib.sha256(json.dumps([backbone.pooling, asdict(backbone.preprocessing)]).encode())
    for name, tensor in backbone.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
