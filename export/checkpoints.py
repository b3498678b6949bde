"""Weights from files, without running anything that a file may contain."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from timm.models import load_state_dict
from torch import Tensor, nn

from ..runtime import OnnxplainError
from ..runtime.errors import one_line

SHOWN = 3
"""How many keys of each kind an error names."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint into ``model``, every key of it and no other.

    path: .safetensors, or a .pth/.bin that torch.load reads with weights_only=True. Wrappers ("state_dict", "model",
        their EMA variants, "module."), other position grids and foreign layouts are converted by timm.
    Raises OnnxplainError if the file cannot be read or lists the keys that are missing, unexpected or of wrong shape.
    """
    state = _read(path)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(state, model)
        except Exception as error:  # it reshapes what it finds under a known name
            raise OnnxplainError(f"{path} does not fit {type(model).__name__}: {one_line(error)}") from error
    expected = model.state_dict()
    problems = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of wrong shape": [
            f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
            for key in expected.keys() & state.keys()
            if state[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(_summary(problems))
        raise OnnxplainError(f"{path} does not fit {type(model).__name__}: {found}{_hint(problems, state)}")
    model.load_state_dict(state)


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise OnnxplainError(f"no checkpoint at {path}")
    try:
        state = load_state_dict(str(path), weights_only=True)
    except AttributeError as error:  # timm takes it for a dictionary by names
        raise OnnxplainError(f"{path} holds no state dict of tensors") from error
    except Exception as error:  # a damaged file can raise anything
        reason = one_line(error).partition(". ")[0]  # what torch writes beyond is how to read it unsafely
        raise OnnxplainError(
            f"{path} is not a checkpoint that can be read safely ({type(error).__name__}: {reason}); "
            "save the model's state_dict() alone, with torch.save or as .safetensors"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise OnnxplainError(f"{path} holds no state dict of tensors")
    return state


def _summary(problems: dict[str, list[str]]) -> list[str]:
    return [
        f"{len(keys)} {kind}: {', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''}"
        for kind, keys in problems.items()
        if keys
    ]


def _hint(problems: dict[str, list[str]], state: dict[str, Tensor]) -> str:
    """What to do where only the head, which timm calls that in all its transformers, is of another size."""
    wrong = [entry.split()[0] for entry in problems["of wrong shape"]]
    classes = {len(state[key]) for key in wrong}
    only_head = not problems["missing"] + problems["unexpected"] and all(key.startswith("head") for key in wrong)
    return f"; it is for {classes.pop()} classes: give that as --num-classes" if only_head and len(classes) == 1 else ""
