"""Heads, labels and prompts in files."""

import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from tests.fuzz import tensors
from tests.fuzz.cases import Case
from tests.fuzz.checkpoints import MODEL, judge
from tests.fuzz.exports import export_until_read
from tests.fuzz.mutators import ODD, mutate_bytes, mutate_json

CLASSES, WIDTH = 5, 64
NAMES = ["tabby cat", "crane", "Käse", "a, b", "猫"]
ODD_LINES = (
    "",
    " ",
    "\t",
    "\x1b[31mred",
    "\u202ebidi",
    "x" * 10_000,
    "\0",
    "nul\0",
    "\r",
    "\v",
    "\u2028",
    "a\x85b",
    '"',
)


def prepare(base: Path) -> None:
    """A model with a text encoder."""
    from tests.helpers.text_models import save_clip

    save_clip(base / "clip")


def head(rng: random.Random, base: Path, folder: Path) -> Case:
    """A head that may not fit together."""
    generator = torch.Generator().manual_seed(0)
    state = {
        "weight": torch.randn(CLASSES, WIDTH, generator=generator),
        "bias": torch.randn(CLASSES, generator=generator),
    }
    if rng.random() < 0.6:
        state |= {"mean": torch.randn(WIDTH, generator=generator), "std": torch.rand(WIDTH, generator=generator) + 0.5}
    metadata = {"onnxplain_head": "1", "pooling": "cls", "labels": json.dumps(NAMES), "activation": "softmax"}
    about = "whole"
    change = rng.choice(("bytes", "header", "tensor", "metadata"))
    if change == "tensor":
        name = rng.choice(sorted(state))
        about = f"{rng.choice(tensors.CHANGES)(state, name, rng)} {name}"
    elif change == "metadata":
        name = rng.choice(sorted(metadata))
        metadata[name] = (
            mutate_json(NAMES, rng)[0].decode(errors="replace") if name == "labels" else ODD[rng.choice(list(ODD))]
        )
        about = f"{name} {metadata[name][:50]!r}"
    data = save({name: tensor.contiguous() for name, tensor in state.items()}, metadata)
    if change == "bytes":
        data, about = mutate_bytes(data, rng)
    elif change == "header":
        data, about = tensors.mutate_header(data, rng)
    (folder / "head.safetensors").write_bytes(data)
    arguments = ("export", "--model", MODEL, "--random-init", "--head", "head.safetensors", "--head-pooling", "cls")
    work = export_until_read(arguments, lambda backbone: _inspect_head(backbone, Path("head.safetensors")))
    return Case(f"head: {about}", arguments, judge, work)


def _inspect_head(backbone: Any, path: Path) -> str | None:
    try:
        state, metadata = tensors.read_safetensors(path)
        features = backbone.model[0](torch.randn(2, 3, *backbone.preprocessing.size)).double()
        scaled = (features - state.get("mean", 0)) / state.get("std", 1)
        wanted = scaled @ state["weight"].T + state.get("bias", 0)
        given = backbone.model[1](features.float())
    except Exception as error:
        return f"took a head that cannot be read: {type(error).__name__}: {error}"
    if not torch.isfinite(given).all() or (given - wanted).abs().max() > 1e-4 * (1 + wanted.abs().max()):
        return "the head is not as in the file"
    names = (
        json.loads(metadata["labels"])
        if "labels" in metadata
        else [str(index) for index in range(len(backbone.labels))]
    )
    return None if list(backbone.labels) == names else f"labels {backbone.labels[:3]} instead of {names[:3]}"


def _texts(rng: random.Random) -> tuple[bytes, str]:
    """A file of texts, as lines or JSON, with something odd about it."""
    change = rng.choice(("lines", "json", "bytes", "encoding"))
    if change == "json":
        return mutate_json(NAMES, rng)
    lines = list(NAMES)
    if change == "lines":
        odd = rng.choice(ODD_LINES)
        lines[rng.randrange(len(lines))] = odd
        return "\n".join(lines).encode(errors="surrogatepass"), f"the line {odd[:20]!r}"
    if change == "encoding":
        codec = rng.choice(("utf-16", "latin-1", "utf-8-sig", "cp500"))
        ends = rng.choice(("\n", "\r\n", "\r", "\n\n"))
        return ends.join(lines).encode(codec, errors="replace"), f"{codec} with {ends!r}"
    return mutate_bytes("\n".join(lines).encode(), rng)


def labels(rng: random.Random, base: Path, folder: Path) -> Case:
    """Names of classes."""
    data, about = _texts(rng)
    (folder / "labels.txt").write_bytes(data)
    arguments = ("export", "--model", MODEL, "--random-init", "--num-classes", "5", "--labels", "labels.txt")
    return Case(
        f"labels: {about}",
        arguments,
        judge,
        export_until_read(arguments, lambda backbone: _inspect_texts(backbone, data)),
    )


def prompts(rng: random.Random, base: Path, folder: Path) -> Case:
    """Classes in words, or the sentences around them."""
    shutil.copytree(base / "clip", folder / "clip")
    data, about = _texts(rng)
    (folder / "texts.txt").write_bytes(data)
    arguments = ("export", "--model", "hf/clip", "--prompts", "texts.txt")
    if rng.random() < 0.3:
        templates = data.replace(b"a", b"{}")
        (folder / "texts.txt").write_bytes(templates)
        arguments = ("export", "--model", "hf/clip", "--prompts", "a cat", "a dog", "--template", "texts.txt")
        data, about = b"a cat\na dog", f"template: {about}"
    return Case(
        f"prompts: {about}",
        arguments,
        judge,
        export_until_read(arguments, lambda backbone: _inspect_texts(backbone, data)),
    )


def _inspect_texts(backbone: Any, data: bytes) -> str | None:
    """Whether the labels are what the file holds."""
    try:
        text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=None).read().strip()
        names = json.loads(text) if text.startswith("[") else [line.strip() for line in text.splitlines()]
    except ValueError as error:
        return f"took texts that cannot be read: {error}"
    return None if list(backbone.labels) == names else f"labels {backbone.labels[:3]} instead of {names[:3]}"
