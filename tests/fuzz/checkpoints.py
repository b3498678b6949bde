"""Checkpoints in every container: damaged, of other types, with other tensors, with programs in their pickles.

They are read as `export --checkpoint` reads them. The right answer is a model whose parameters are the file's, to the
last bit, where a reader of the tests finds in the file the very tensors of that model, floating and finite; or
a refusal.
"""

import io
import random
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from tests.fuzz import exports, tensors
from tests.fuzz.cases import Case, Outcome
from tests.fuzz.mutators import mutate_bytes
from tests.fuzz.zips import mutate_zip

MODEL = "timm/test_vit"
CONTAINERS: tuple[tuple[str, Any], ...] = (
    ("bare", lambda state: state),
    ("state_dict", lambda state: {"state_dict": state, "epoch": 3}),
    ("model", lambda state: {"model": state, "optimizer": {"lr": 0.1}}),
)
imports = exports.imports


def prepare(base: Path) -> None:
    """A model's weights, of which no two tensors are the same."""
    import timm

    torch.manual_seed(0)
    state = {
        name: torch.randn_like(tensor) * 0.02 for name, tensor in timm.create_model("test_vit").state_dict().items()
    }
    (base / "weights.safetensors").write_bytes(save(state))


def make(rng: random.Random, base: Path, folder: Path) -> Case:
    """A checkpoint that may not be what it seems."""
    state = load_file(base / "weights.safetensors")
    kind = rng.choices(("safetensors", "pth"), (1, 1))[0]
    data, about = (_safetensors if kind == "safetensors" else _pth)(state, rng)
    name = (
        rng.choice(("weights.pth", "weights.bin", "weights.safetensors")) if rng.random() < 0.03 else f"weights.{kind}"
    )
    (folder / name).write_bytes(data)
    arguments = ("export", "--model", MODEL, "--checkpoint", name, "--output", "out.onnx")
    work = exports.export_until_read(arguments, lambda backbone: inspect(backbone, Path(name)))
    return Case(f"{name}: {about}", arguments, judge, work)


def judge(outcome: Outcome) -> str | None:
    """What `inspect` found, where the checkpoint was taken."""
    if outcome.new_files:
        return "something was run or written"
    if outcome.status != 0:
        return None
    fault: str | None = outcome.finding[0]
    return fault


def inspect(backbone: Any, path: Path) -> str | None:
    """What the model has other than the file."""
    model = backbone.model.state_dict()
    try:
        states = [tensors.read_safetensors(path)[0]] if path.suffix == ".safetensors" else tensors.read_pickled(path)
    except Exception as error:  # a damaged file can raise anything
        return f"took a file that cannot be read: {type(error).__name__}: {error}"
    faults = [tensors.difference(model, {_plain(name): value for name, value in state.items()}) for state in states]
    return None if None in faults else (faults or ["took a file without weights"])[-1]


def _plain(name: str) -> str:
    """Without what training programs put before it."""
    return name.removeprefix("module.")


def _changed(state: tensors.State, rng: random.Random) -> str:
    name = rng.choice(sorted(state))
    return f"{rng.choice(tensors.CHANGES)(state, name, rng)} {name}"


def _safetensors(state: tensors.State, rng: random.Random) -> tuple[bytes, str]:
    kind = rng.choice(("bytes", "header", "header", "tensors", "tensors"))
    if kind == "tensors":
        about = _changed(state, rng)
        return save({name: value.contiguous() for name, value in state.items()}), about
    data = save(state)
    if kind == "header":
        return tensors.mutate_header(data, rng)
    if rng.random() < 0.5:  # most of the file is numbers: half the damage goes where the description is
        (length,) = struct.unpack_from("<Q", data)
        head, about = mutate_bytes(data[: 8 + length], rng)
        return head + data[8 + length :], f"description with {about}"
    return mutate_bytes(data, rng)


def _pth(state: tensors.State, rng: random.Random) -> tuple[bytes, str]:
    kind = rng.choice(("bytes", "zip", "zip", "tensors", "tensors", "odd", "pickle"))
    container, wrap = rng.choice(CONTAINERS)
    if kind == "tensors":
        about = _changed(state, rng)
        return tensors.pickled(wrap(state), rng), f"{container}: {about}"
    if kind == "odd":
        odd = rng.choice(list(tensors.ODD_TENSORS))
        for name in sorted(state) if rng.random() < 0.3 else [rng.choice(sorted(state))]:
            state[name] = tensors.ODD_TENSORS[odd](state[name])
        return tensors.pickled(wrap(state), rng), f"{container}: {odd}"
    if kind == "pickle":
        content = rng.choice(
            (tensors.Runs(), [1, 2], {}, "text", None, {"state_dict": None}, {"model": {"a": {"b": state}}})
        )
        data = tensors.dumped(content) if rng.random() < 0.3 else tensors.pickled(content, rng)
        return data, f"{type(content).__name__} of {len(content) if isinstance(content, dict | list) else 0}"
    if kind == "bytes":
        data, about = mutate_bytes(tensors.pickled(wrap(state), rng), rng)
        return data, f"{container}: {about}"
    file = io.BytesIO()
    torch.save(wrap(state), file)
    data, about = mutate_zip(file.getvalue(), rng)
    return data, f"{container}: {about}"
