"""The features of pictures, and a file that keeps them.

The file is in safetensors format: ``features`` [pictures, width], and ``sample`` [width], the features of one fixed
picture of noise. Its metadata are ``onnxplain_features`` the version, ``model`` a checksum of weights, pooling and
preprocessing, ``pictures``, a JSON list of the SHA-256 of each picture file, and ``sha256``, of the features and that
list. Features are taken from it only where all of this is as before: then they are, but for rounding, what would be
computed again.
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
from ..models.backbones import Features
from ..models.sources import SEED

VERSION = "2"
"""1 had no digest of the features."""
BATCH = 32
TOLERANCE = 1e-4
"""By how much of its largest the features of the noise may differ: what the number of threads and the like change."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""


@dataclass(frozen=True)
class Found:
    """What became of pictures: their features, float32 [width], and the SHA-256 of their files, or why there are none.

    unreadable: what is wrong with a picture, which is named.
    """

    features: dict[Path, NDArray[np.float32]]
    checksums: dict[Path, str]
    unreadable: dict[Path, str]


class FeatureStore:
    """Features of pictures by the SHA-256 of their files, kept in a file.

    path: the file, made when there is something to keep. Raises OnnxplainError if it is there and something else. What
    it holds counts only if it is of this model.
    """

    def __init__(self, backbone: Features, path: Path) -> None:
        self._backbone, self._path = backbone, path
        self._model = _checksum(backbone)
        height, width = backbone.preprocessing.size
        noise = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(SEED))
        self._sample = self._run(noise)[0]
        self._known = self._read()
        self.computed = 0

    def features(self, pictures: Sequence[Path], progress: Progress) -> Found:
        """The features of these pictures.

        Those not known yet are computed and kept, also if the work is interrupted. Raises OnnxplainError if features
        are not finite.
        """
        checksums: dict[Path, str] = {}
        unreadable: dict[Path, str] = {}
        waiting: dict[str, NDArray[np.float32]] = {}
        before = len(self._known)
        try:
            for done, path in enumerate(pictures):
                progress("features", done, len(pictures))
                try:
                    digest = file_digest(path)
                    if digest not in self._known and digest not in waiting:
                        waiting[digest] = preprocess(load_image(path), self._backbone.preprocessing)[0]
                    checksums[path] = digest
                except OnnxplainError as error:
                    unreadable[path] = naming(path, error)
                except OSError as error:
                    unreadable[path] = f"{path} cannot be read: {error.strerror or error}"
                if len(waiting) == BATCH:
                    self._compute(waiting)
            self._compute(waiting)
        finally:
            self.computed += len(self._known) - before
            if len(self._known) > before:
                self._write()
        features = {path: self._known[digest].numpy() for path, digest in checksums.items()}
        wrong = next((path for path, given in features.items() if not np.isfinite(given).all()), None)
        if wrong is not None:
            raise OnnxplainError(f"the features that {self._backbone.name} gives of {wrong} are not finite")
        return Found(features, checksums, unreadable)

    def _compute(self, waiting: dict[str, NDArray[np.float32]]) -> None:
        """The features of preprocessed pictures, which no longer wait then."""
        if waiting:
            given = self._run(torch.from_numpy(np.stack(list(waiting.values()))))
            self._known.update(zip(waiting, given, strict=True))
            waiting.clear()

    def _run(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            features: Tensor = self._backbone.model(pixels)
            return features.float()

    def _read(self) -> dict[str, Tensor]:
        """The features in the file by the checksum of their picture, none where they are of another model."""
        if not self._path.exists():
            return {}
        check_file(self._path, "a cache of features", f"there is no {self._path}")
        try:
            with safe_open(self._path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata["onnxplain_features"] != VERSION:
                    return {}
                if metadata["model"] != self._model or not self._same(file.get_tensor("sample")):
                    return {}
                features = file.get_tensor("features")
                if features.dtype != torch.float32:
                    raise KeyError("features")
                if metadata["sha256"] != _digest(features, metadata["pictures"]):
                    raise OnnxplainError(f"{self._path} is damaged; give another `cache`, or remove it")
                return dict(zip(json.loads(metadata["pictures"]), features, strict=True))
        except OnnxplainError:
            raise
        except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
            raise OnnxplainError(f"{self._path} is no cache of features; give another `cache`, or remove it") from error

    def _same(self, sample: Tensor) -> bool:
        """Whether the model does what it did: weights do not tell of everything, such as how many heads there are."""
        largest = float(self._sample.abs().max())
        if (sample.shape, sample.dtype) != (self._sample.shape, self._sample.dtype):
            return False
        return torch.allclose(sample, self._sample, rtol=0, atol=TOLERANCE * largest)

    def _write(self) -> None:
        features, pictures = torch.stack(list(self._known.values())), json.dumps(list(self._known))
        metadata = {
            "onnxplain_features": VERSION,
            "model": self._model,
            "pictures": pictures,
            "sha256": _digest(features, pictures),
        }
        tensors = {"features": features, "sample": self._sample}
        with atomic_file(self._path) as temporary:
            save_file(tensors, temporary, metadata)


def _digest(features: Tensor, pictures: str) -> str:
    """SHA-256 of the features and of the list of pictures they are of."""
    digest = hashlib.sha256(features.contiguous().numpy())  # type: ignore[arg-type]  # any buffer
    digest.update(pictures.encode())
    return digest.hexdigest()


def _checksum(backbone: Features) -> str:
    """Of weights, pooling and preprocessing."""
    digest = hashlib.sha256(json.dumps([backbone.pooling, asdict(backbone.preprocessing)]).encode())
    for name, tensor in backbone.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
