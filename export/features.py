"""The features of pictures, and a file that keeps them.

The file is in safetensors format: ``features`` [pictures, width], and ``sample`` [width], the features of one fixed
picture of noise. Its metadata are ``onnxplain_features`` the version, ``model`` a checksum of weights, pooling and
preprocessing, and ``pictures``, a JSON list of the SHA-256 of each picture file. Features are taken from it only where
all of this is as before: then they are, but for rounding, what would be computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..runtime import OnnxplainError, load_image, preprocess
from ..runtime.digest import file_digest
from ..runtime.files import check_file
from .backbones import Features
from .onnx_file import written_whole
from .sources import SEED

VERSION = "1"
BATCH = 32
SHOWN = 5
"""How many unreadable pictures an error names."""
TOLERANCE = 1e-4
"""By how much of its largest the features of the noise may differ: what the number of threads and the like change."""

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""


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

    def features(self, pictures: Sequence[Path], progress: Progress) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """float32 [pictures, width] and the SHA-256 of every file.

        Those not known yet are computed and kept, also if the work is interrupted. Raises OnnxplainError if there are
        pictures that cannot be read, or whose features are not finite, and names them.
        """
        checksums: dict[Path, str] = {}
        unreadable: dict[Path, str] = {}
        waiting: dict[str, NDArray[np.float32]] = {}
        before = len(self._known)
        try:
            for done, path in enumerate(pictures):
                progress("features", done, len(pictures))
                try:
                    checksums[path] = digest = file_digest(path)
                    if digest not in self._known and digest not in waiting:
                        waiting[digest] = preprocess(load_image(path), self._backbone.preprocessing)[0]
                except (OnnxplainError, OSError) as error:
                    unreadable[path] = str(error)
                if len(waiting) == BATCH:
                    self._compute(waiting)
            self._compute(waiting)
        finally:
            self.computed += len(self._known) - before
            if len(self._known) > before:
                self._write()
        if unreadable:
            names = ", ".join(map(str, islice(unreadable, SHOWN))) + (", …" if len(unreadable) > SHOWN else "")
            raise OnnxplainError(
                f"{len(unreadable)} of {len(pictures)} pictures cannot be read: {names}; remove or replace them "
                f"({next(iter(unreadable.values()))})"
            )
        given = torch.stack([self._known[checksums[path]] for path in pictures]).numpy()
        wrong = np.flatnonzero(~np.isfinite(given).all(axis=1))
        if len(wrong):
            raise OnnxplainError(
                f"the features that {self._backbone.name} gives of {pictures[wrong[0]]} are not finite"
            )
        return given, tuple(checksums[path] for path in pictures)

    def _compute(self, waiting: dict[str, NDArray[np.float32]]) -> None:
        """The features of preprocessed pictures, which no longer wait then."""
        if waiting:
            given = self._run(torch.from_numpy(np.stack(list(waiting.values()))))
            self._known.update(zip(waiting, given, strict=True))
            waiting.clear()

    def _run(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self._backbone.model(pixels).float()

    def _read(self) -> dict[str, Tensor]:
        """The features in the file by the checksum of their picture, none where they are of another model."""
        if not self._path.exists():
            return {}
        check_file(self._path, "a cache of features", f"there is no {self._path}")
        try:
            with safe_open(self._path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("onnxplain_features") != VERSION:
                    raise KeyError("onnxplain_features")
                if metadata["model"] != self._model or not self._same(file.get_tensor("sample")):
                    return {}
                return dict(zip(json.loads(metadata["pictures"]), file.get_tensor("features"), strict=True))
        except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
            raise OnnxplainError(f"{self._path} is no cache of features; give another --cache, or remove it") from error

    def _same(self, sample: Tensor) -> bool:
        """Whether the model does what it did: weights do not tell of everything, such as how many heads there are."""
        largest = float(self._sample.abs().max())
        return sample.shape == self._sample.shape and torch.allclose(
            sample, self._sample, rtol=0, atol=TOLERANCE * largest
        )

    def _write(self) -> None:
        metadata = {
            "onnxplain_features": VERSION,
            "model": self._model,
            "pictures": json.dumps(list(self._known)),
        }
        tensors = {"features": torch.stack(list(self._known.values())), "sample": self._sample}
        with written_whole(self._path) as temporary:
            save_file(tensors, temporary, metadata)


def _checksum(backbone: Features) -> str:
    """Of weights, pooling and preprocessing."""
    digest = hashlib.sha256(json.dumps([backbone.pooling, asdict(backbone.preprocessing)]).encode())
    for name, tensor in backbone.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
