"""Weights from files and folders, without running anything that a file may contain."""

from __future__ import annotations

import argparse
import json
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from timm.models import clean_state_dict
from torch import Tensor, nn

from onnxplain.contract import OnnxplainError, OnnxplainWarning
from onnxplain.contract.errors import one_line
from onnxplain.runtime.files import check_file

from .internals.of_timm import convert_state
from .weights import check_kinds, check_stored, first_few

TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The names of weights in repositories of transformers and timm; the first that is there counts."""
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""The same in those of open_clip, where it names no other."""
WEIGHTS = (*TRANSFORMERS_WEIGHTS, *OPEN_CLIP_WEIGHTS)
"""The names of weights in a folder or repository; the first that is there counts."""
CONTAINERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model", "model_state_dict", "module", "teacher",
    "student",
)  # fmt: skip
"""What training programs call the state dict in their checkpoints. The first that is there counts; averages of the
weights come first."""
DEPTH = 3
"""How deep containers may be nested."""
PREFIXES = ("module.", "model.", "backbone.")
"""What training programs put before the names of weights."""
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
"""The files of which a folder with a tokenizer holds at least one."""
TRANSFORMERS_KEYS = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embedding.weight")
"""How keys end that only weights in transformers' format have."""

State = dict[str, Tensor]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into ``model``, every key of it and no other.

    A CheckpointWarning is given if the file holds several sets of weights.

    Args:
        model: Its parameters are replaced.
        path: .safetensors, or a .pth or .bin that torch.load reads with weights_only=True. Wrappers ("state_dict",
            "model", their EMA variants, "module.") are taken off; other position grids and foreign layouts are
            converted by timm.

    Raises:
        OnnxplainError: If the file cannot be read, or keys are missing, unexpected or of wrong shape.
    """
    load_state(model, read_state(path), path)


def load_state(model: nn.Module, state: State, path: Path | str) -> None:
    """Load a state dict that was read from ``path``, which errors name, as ``load_weights`` does."""
    state = without_prefixes(state, model)
    try:
        state = convert_state(state, model)
    except Exception as error:  # it reshapes what it finds under a known name
        raise OnnxplainError(f"{path} does not fit {type(model).__name__}: {one_line(error)}") from error
    expected = model.state_dict()
    wrong = {
        key: (state[key].shape, expected[key].shape)
        for key in expected.keys() & state.keys()
        if state[key].shape != expected[key].shape
    }
    check_keys(f"{path} does not fit {type(model).__name__}", expected.keys() - state, state.keys() - expected, wrong)
    check_kinds(str(path), state, model)
    model.load_state_dict(state)


def without_prefixes(state: State, model: nn.Module) -> State:
    """The weights without PREFIXES before their names, unless the model's own names begin so."""
    expected = model.state_dict().keys()
    for prefix in PREFIXES:
        if not any(key.startswith(prefix) for key in expected):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def check_keys(
    subject: str, missing: Collection[str], unexpected: Collection[str], wrong: Mapping[str, tuple[Any, Any]]
) -> None:
    """Raise OnnxplainError if there are any such keys.

    Args:
        subject: What the message begins with.
        missing: Keys of the model that are not in the file.
        unexpected: Keys in the file that are not the model's.
        wrong: By key, the shape in the file and the shape in the model.

    Raises:
        OnnxplainError: With the first few of them.
    """
    shapes = [f"{key} {list(stored)} instead of {list(needed)}" for key, (stored, needed) in sorted(wrong.items())]
    problems = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of wrong shape": shapes}
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {first_few(keys)}" for kind, keys in problems.items() if keys)
        raise OnnxplainError(f"{subject}: {found}{_hint(problems, wrong)}")


class CheckpointWarning(OnnxplainWarning):
    """A checkpoint holds several sets of weights; the message says which of them is taken."""


def read_state(path: Path, what: str = "checkpoint") -> State:
    """Read the tensors of a file, out of the container that a training program may have put them in.

    A CheckpointWarning is given if the file holds several such containers.

    Args:
        path: As for ``load_weights``.
        what: What the file is called in errors.

    Returns:
        The tensors by name, without the prefixes of DataParallel and torch.compile.

    Raises:
        OnnxplainError: If there is no such file, it is damaged, or holds something else.
    """
    check_file(path, f"a {what}", f"no {what} at {path}")
    _check_sums(path)
    try:
        stored = _read(path)
    except Exception as error:  # a damaged file can raise anything
        reason = one_line(error).partition(". ")[0]  # what torch writes beyond is how to read it unsafely
        raise OnnxplainError(
            f"{path} is not a checkpoint that can be read safely ({type(error).__name__}: {reason}); "
            "save the model's state_dict() alone, with torch.save or as .safetensors"
        ) from error
    state = _unpack(path, stored)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise OnnxplainError(f"{path} holds no state dict of tensors")
    state = clean_state_dict(state)
    check_stored(path, state)
    return state


def _read(path: Path) -> Any:
    """What the file holds; raises anything if it is damaged."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    with torch.serialization.safe_globals([argparse.Namespace]):  # which many training programs save their options as
        return torch.load(path, map_location="cpu", weights_only=True)


def _unpack(path: Path, stored: Any) -> Any:
    """The state dict in the containers of a checkpoint."""
    for _ in range(DEPTH):
        found = [name for name in CONTAINERS if isinstance(stored, dict) and _holds_weights(stored.get(name))]
        if not found:
            break
        if len(found) > 1:
            message = f"{path} holds several sets of weights: {', '.join(found)}; {found[0]} is taken"
            warnings.warn(f"{message}, save another alone to have it", CheckpointWarning, stacklevel=2)
        stored = stored[found[0]]
    return stored


def _holds_weights(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(item, Tensor | dict) for item in value.values())


def _check_sums(path: Path) -> None:
    """Raise OnnxplainError if a checksum in what torch.save wrote is wrong; torch.load does not look at them."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception:  # a damaged archive can raise anything; torch.load will tell what is wrong with it
        return
    if damaged is not None:
        raise OnnxplainError(
            f"{path} is damaged: the check sum of {damaged} in it is wrong; copy or download it again (if it was saved "
            "with torch.serialization.set_crc32_options(False), save it without)"
        )


def weights_in(folder: Path) -> Path:
    """The file of weights in a folder; raises OnnxplainError if there is none."""
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise OnnxplainError(
            f"no checkpoint in the folder {folder}; it would be named {' or '.join(TRANSFORMERS_WEIGHTS)}"
        )
    return found[0]


def config_of(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """The JSON object in a file of a folder, empty if there is none."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OnnxplainError(f"{path} is not JSON: {one_line(error)}") from error
    return config if isinstance(config, dict) else {}


def is_transformers(folder: Path) -> bool:
    """Whether a folder holds a model as the library transformers writes it."""
    return "model_type" in config_of(folder)


def _hint(problems: Mapping[str, list[str]], wrong: Mapping[str, tuple[Any, Any]]) -> str:
    """What to do where only the head is of another size, or the file is of another library."""
    if any(key.endswith(TRANSFORMERS_KEYS) for key in problems["unexpected"]):
        return "; it is in transformers' format: give the folder that holds it with its config.json"
    classes = {stored[0] for stored, _ in wrong.values()}
    heads = all("head" in key or "classifier" in key for key in wrong)
    only_head = heads and not problems["missing"] + problems["unexpected"]
    return f"; it is for {classes.pop()} classes: give that as `num_classes`" if only_head and len(classes) == 1 else ""
