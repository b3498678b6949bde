"""Files of weights: readers that share nothing with the program's, and changes that a reader takes seriously."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.fuzz.mutators import mutate_json

State = dict[str, Tensor]
FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """The tensors as float64, and the metadata, by the format's description alone.

    Raises ValueError unless all are floating numbers.
    """
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    state = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        raw = data[8 + length + start : 8 + length + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in FLOATS:
            values = np.frombuffer(raw, FLOATS[entry["dtype"]])
        else:
            raise ValueError(f"{name} is {entry['dtype']}")
        state[name] = torch.from_numpy(values.astype(np.float64)).reshape(entry["shape"])
    return state, metadata


def read_pickled(path: Path) -> list[State]:
    """The dictionaries of tensors in a file of torch.save, as float64, the outermost first.

    Raises ValueError if the check sum of a record is wrong, or a tensor is not of floating numbers.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the check sum of {damaged} is wrong")
    content = torch.load(path, map_location="cpu", weights_only=True)
    found = [content, *content.values()] if isinstance(content, dict) else []
    states = [item for item in found if isinstance(item, dict) and item and all(map(torch.is_tensor, item.values()))]
    for state in states:
        for name, tensor in state.items():
            if not tensor.is_floating_point():
                raise ValueError(f"{name} is {tensor.dtype}")
    return [{str(name): tensor.double() for name, tensor in state.items()} for state in states]


def difference(model: Mapping[str, Tensor], state: State) -> str | None:
    """How the parameters of a model differ from those of a file; None if they do not."""
    for name in state:
        if not torch.isfinite(state[name]).all():
            return f"{name} in the file is not finite"
    if model.keys() != state.keys():
        return f"other names: {sorted(model.keys() ^ state.keys())[:3]}"
    for name, tensor in model.items():
        if tensor.shape != state[name].shape or not torch.equal(tensor.float(), state[name].float()):
            return f"{name} is not as in the file"
        if not torch.isfinite(tensor).all():
            return f"{name} is not finite"
    return None


class Runs:
    """A pickle that would run something, and leave the file `ran`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


Change = Callable[[State, str, Random], Any]


def _retyped(state: State, name: str, rng: Random) -> str:
    dtype = rng.choice(
        (
            torch.float16,
            torch.bfloat16,
            torch.float64,
            torch.int8,
            torch.int64,
            torch.bool,
            torch.complex64,
            torch.uint8,
        )
    )
    for key in list(state) if rng.random() < 0.5 else [name]:
        state[key] = state[key].to(dtype)
    return f"as {dtype}"


def _value(state: State, name: str, rng: Random) -> str:
    value = rng.choice((float("nan"), float("inf"), float("-inf"), 1e38, 0.0))
    state[name].view(-1)[rng.randrange(state[name].numel())] = value
    return f"{value} in"


def _too_large(state: State, name: str, rng: Random) -> str:
    state[name] = torch.full(state[name].shape, 1e300, dtype=torch.float64)
    return "1e300 in"


def _transposed(state: State, name: str, rng: Random) -> str:
    state[name] = (
        state[name].flatten()
        if rng.random() < 0.3
        else state[name].mT.contiguous()
        if state[name].dim() > 1
        else state[name][:-1]
    )
    return "another shape of"


def _missing(state: State, name: str, rng: Random) -> str:
    del state[name]
    return "no"


def _extra(state: State, name: str, rng: Random) -> str:
    state[rng.choice(("x", "head_drop.weight", "blocks.9.norm1.bias", "\x1b[31mred", "\u202ename", "a\nb"))] = (
        torch.zeros(3)
    )
    return "one more beside"


def _renamed(state: State, name: str, rng: Random) -> str:
    new = rng.choice((name.upper(), "module." + name, name.replace(".", "/"), name + "\x1b[31m", "x" * 5000))
    state[new] = state.pop(name)
    return "another name for"


def _nothing(state: State, name: str, rng: Random) -> str:
    state.clear()
    return "nothing, not even"


CHANGES: tuple[Change, ...] = (
    _retyped,
    _retyped,
    _value,
    _too_large,
    _transposed,
    _missing,
    _extra,
    _renamed,
    _nothing,
)

# For torch.save alone: what is no ordinary tensor
ODD_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "sparse": lambda tensor: tensor.to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "expanded": lambda tensor: tensor.flatten()[:1].expand(tensor.shape),
    "quantised": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "a parameter": torch.nn.Parameter,
    "a list": lambda tensor: tensor.tolist(),
    "a text": lambda tensor: "text",
    "nothing": lambda tensor: None,
    "a program": lambda tensor: Runs(),
}


def pickled(content: Any, rng: Random) -> bytes:
    """As torch.save writes it, seldom as it did long ago."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.8)
    return file.getvalue()


def mutate_header(data: bytes, rng: Random) -> tuple[bytes, str]:
    """A safetensors file with its description changed."""
    (length,) = struct.unpack_from("<Q", data)
    if rng.random() < 0.15:
        length = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(data)))
        return struct.pack("<Q", length) + data[8:], f"a header of {length} bytes"
    header = json.loads(data[8 : 8 + length])
    names = rng.sample(sorted(header.keys() - {"__metadata__"}), 2)
    change = rng.choice(("json", "json", "dtype", "swap", "overlap", "shape", "metadata"))
    if change == "json":
        text, about = mutate_json(header, rng)
    else:
        first, second = (header[name] for name in names)
        if change == "dtype":
            first["dtype"] = rng.choice(("I32", "F16", "BF16", "F8_E4M3", "C64", "BOOL", "X"))
        elif change == "swap":
            header[names[0]], header[names[1]] = second, first
        elif change == "overlap":
            first["data_offsets"] = second["data_offsets"]
        elif change == "shape":
            first["shape"] = first["shape"][::-1] if len(first["shape"]) > 1 else [*first["shape"], 1]
        else:
            header["__metadata__"] = {"format": rng.choice(("pt", "tf", "\x1b[31m"))}
        text, about = json.dumps(header).encode(), f"{change} of {names[0]}"
    return struct.pack("<Q", len(text)) + text + data[8 + length :], f"header: {about}"


def dumped(content: Any) -> bytes:
    """A bare pickle."""
    return pickle.dumps(content)
