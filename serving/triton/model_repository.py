"""A model repository for Triton: the folder of a model, with the artifact and what the server reads beside it."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from onnxplain.contract.errors import ArtifactError, OnnxplainError
from onnxplain.contract.formats import format_of
from onnxplain.contract.interface import description
from onnxplain.contract.metadata import Metadata
from onnxplain.runtime.files import unfinished

from .triton_config import LABELS, check_servable, config_text
from .triton_guide import guide_text

MODEL = "1/model.onnx"  # version 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def model_folder(repository: Path, artifact: Path, model_name: str | None) -> Path:
    """The folder of a model in a repository, which has the model's name.

    Args:
        repository: The folder of all models.
        artifact: The file, whose name without suffix is the model's by default.
        model_name: The model's, if it is another.

    Raises:
        ArtifactError: The artifact is of a format that Triton's onnxruntime backend cannot open.
        OnnxplainError: The name cannot stand in an address.
    """
    if format_of(artifact) != "onnx":
        raise ArtifactError(f"{artifact} is not an ONNX file by its name; Triton is given those alone")
    name = artifact.stem if model_name is None else model_name
    if not NAME.fullmatch(name):
        raise OnnxplainError(
            f"a model in Triton must have a name of up to 100 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and "
            f"begin with a letter or digit, got {name!r}; give another `model_name`"
        )
    return repository / name


def write_model(artifact: Path, metadata: Metadata, folder: Path, max_batch_size: int) -> list[Path]:
    """Write the folder of a model, each file whole or not at all; other files in it stay as they are.

    Args:
        artifact: An ONNX file, which is copied.
        metadata: Its metadata.
        folder: Where to write, from `model_folder`; its name is the model's.
        max_batch_size: How many images a run of the server takes at most.

    Returns:
        The files.

    Raises:
        ArtifactError: Triton cannot serve the artifact.
        OnnxplainError: `max_batch_size` is not valid, or a file cannot stand where it is to be.
        OSError: A file cannot be written.
    """
    check_servable(artifact, metadata)
    texts = {  # config.pbtxt last: a server that looks on takes it for the sign that the rest is there
        LABELS: "".join(f"{' '.join(label.split())}\n" for label in metadata.labels),
        "metadata.json": json.dumps(description(metadata), indent=2) + "\n",
        "README.md": guide_text(folder.name, metadata, max_batch_size),
        "config.pbtxt": config_text(folder.name, metadata, max_batch_size),
    }
    _check_places(folder, (MODEL, *texts))
    with unfinished(folder) as scratch:
        (scratch / "1").mkdir()
        shutil.copyfile(artifact, scratch / MODEL)
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        (folder / MODEL).parent.mkdir(exist_ok=True)
        for name in (MODEL, *texts):
            (scratch / name).replace(folder / name)
    return [folder / name for name in (MODEL, *texts)]


def _check_places(folder: Path, names: Iterable[str]) -> None:
    """Raise OnnxplainError unless each file can be written or replaced."""
    for path in (folder / name for name in names):
        parent = path.parent
        wrong = "it is a folder" if path.is_dir() else f"{parent} is a file" if parent.is_file() else ""
        if wrong:
            raise OnnxplainError(f"cannot write {path}: {wrong}; remove it, or give another `model_name`")
