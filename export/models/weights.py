"""What can be a model's weight: a plain tensor of finite floating-point numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from onnxplain.contract import OnnxplainError

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Float8 is not among them: its numbers mean something only with scales, which each library keeps elsewhere."""
SHOWN = 3
"""How many keys an error names."""


def check_stored(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise OnnxplainError if what was read from a file cannot be converted to float32, or is not numbers one by one.

    Integers and booleans can be a model's too: which of them are, check_kinds finds out.
    """
    _refuse(str(path), {key: what for key, tensor in state.items() if (what := _unusual(tensor))})


def check_kinds(subject: str, state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise OnnxplainError if integers, booleans or complex numbers were loaded as weights, which PyTorch converts.

    state: what was loaded into ``model``. Integers are right for buffers of integers, such as indices of positions;
    these are known by the last part of their names, as libraries put different words before it.
    """
    indices = {_last(key) for key, buffer in model.named_buffers() if not buffer.is_floating_point()}
    wrong = {key: tensor for key, tensor in state.items() if not tensor.is_floating_point()}
    _refuse(subject, {key: _dtype(tensor) for key, tensor in wrong.items() if _last(key) not in indices})


def check_model(subject: str, model: nn.Module) -> None:
    """Raise OnnxplainError, naming the keys, unless the parameters of ``model`` are finite floating-point numbers.

    Buffers may hold other numbers, and infinity, as masks do, but no NaN.
    """
    parameters = {key: each for key, each in model.named_parameters() if not nn.parameter.is_lazy(each)}
    buffers = {key: each for key, each in model.named_buffers() if not nn.parameter.is_lazy(each)}
    wrong = {key: what for key, tensor in {**parameters, **buffers}.items() if (what := _unusual(tensor.detach()))}
    wrong |= {key: _dtype(each) for key, each in parameters.items() if not each.is_floating_point()}
    _refuse(subject, wrong)
    broken = [key for key, each in parameters.items() if not each.isfinite().all()]
    broken += [key for key, each in buffers.items() if each.isnan().any()]
    if broken:
        raise OnnxplainError(
            f"{subject}: NaN or infinity in {len(broken)} weights: {first_few(broken)}; the file is damaged, or the "
            "training that made it diverged"
        )


def _unusual(tensor: Tensor) -> str:
    """What is wrong with a tensor that is not plain numbers in memory, or of a floating type that is not in DTYPES."""
    if tensor.is_meta:
        return "without values, on the device meta"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantized"
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"a {type(tensor).__name__}"
    return _dtype(tensor) if tensor.is_floating_point() and tensor.dtype not in DTYPES else ""


def _refuse(subject: str, wrong: Mapping[str, str]) -> None:
    if wrong:
        listed = first_few([f"{key} is {what}" for key, what in wrong.items()])
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise OnnxplainError(f"{subject}: weights must be dense tensors of {allowed}: {listed}; save them as such")


def first_few(items: Collection[str]) -> str:
    """The first of them, and whether there are more."""
    return f"{', '.join(list(items)[:SHOWN])}{', …' if len(items) > SHOWN else ''}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _last(key: str) -> str:
    return key.rpartition(".")[2]
