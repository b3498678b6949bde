"""onnxruntime's execution providers: which ones a device stands for, and which the caller names."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import onnxruntime

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import no_such

Provider = str | tuple[str, Mapping[str, Any]]
"""A provider as onnxruntime takes it: its name, or its name and its options."""

CPU = "CPUExecutionProvider"


class Device(NamedTuple):
    """One row of the table of devices.

    Attributes:
        provider: The name of onnxruntime's provider.
        options: The options that it is given.
        install: What to install to have it.
    """

    provider: str
    options: Mapping[str, Any] = {}
    install: str = "a build of onnxruntime that has it"


# By the names that `device` takes. "auto" stands for the first of them that onnxruntime offers.
DEVICES = {
    # TF32 keeps ten bits of a float32's mantissa: too few for relevance, which divides by sums that can be near zero
    "cuda": Device("CUDAExecutionProvider", {"use_tf32": "0"}, "pip install 'onnxplain[gpu]'"),
    "cpu": Device(CPU),
}


def providers_of_device(device: str) -> list[Provider]:
    """The providers for a name in `DEVICES` or "auto", first choice first; onnxruntime falls back to the CPU.

    Raises:
        OnnxplainError: If there is no such device, or onnxruntime does not offer its provider.
    """
    if device not in ("auto", *DEVICES):
        raise OnnxplainError(no_such("device", device, ("auto", *sorted(DEVICES)), {"gpu": ("cuda",)}))
    offered = onnxruntime.get_available_providers()
    if device == "auto":
        device = next((name for name, row in DEVICES.items() if row.provider in offered), "cpu")
    row = DEVICES[device]
    if row.provider not in offered:
        raise OnnxplainError(
            f"`device` {device} needs {row.provider}, onnxruntime here has {', '.join(offered)}: {row.install}, or use "
            "another device"
        )
    first = (row.provider, dict(row.options)) if row.options else row.provider
    return [first] if row.provider == CPU else [first, CPU]


def check_providers(providers: Sequence[Provider]) -> list[Provider]:
    """The providers that a caller names, in the caller's order, with the options of `DEVICES` where none are given.

    Raises:
        OnnxplainError: If they are not a list of names, or names with options, or onnxruntime does not offer one.
    """
    if isinstance(providers, str) or not isinstance(providers, Sequence) or not providers:
        raise OnnxplainError(
            f"`providers` must be a list of onnxruntime's providers, got {providers!r}; write [{CPU!r}]"
        )
    offered = onnxruntime.get_available_providers()
    defaults = {row.provider: row.options for row in DEVICES.values()}
    result: list[Provider] = []
    for item in providers:
        name, options = item if isinstance(item, tuple) and len(item) == 2 else (item, {})
        if not isinstance(name, str) or not isinstance(options, Mapping):
            raise OnnxplainError(f"a provider must be a name, or a name and a dict of options, got {item!r}")
        if name not in offered:
            others = {device: (row.provider,) for device, row in DEVICES.items() if row.provider in offered}
            raise OnnxplainError(no_such("provider", name, offered, others))
        merged = {**defaults.get(name, {}), **options}
        result.append((name, merged) if merged else name)
    return result


def load_libraries(providers: Sequence[Provider]) -> None:
    """Load the libraries of CUDA that pip installs beside onnxruntime, where its own search does not find them.

    Nothing happens where onnxruntime is built without CUDA. What cannot be loaded, it names on the standard error;
    its providers then cannot be used, unless PyTorch has loaded the same libraries.
    """
    if any(provider_name(provider) != CPU for provider in providers):
        with redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()


def provider_name(provider: Provider) -> str:
    """Its name, without the options."""
    return provider if isinstance(provider, str) else provider[0]


def device_name(provider: str) -> str:
    """The name in `DEVICES` that stands for the provider, else the provider's own."""
    return next((name for name, row in DEVICES.items() if row.provider == provider), provider)
