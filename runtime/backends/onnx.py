"""Artifacts opened with onnxruntime: checked against their metadata, and run for chosen outputs."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxplain.contract.errors import ArtifactError, OnnxplainError, one_line
from onnxplain.contract.metadata import METADATA_KEY, Metadata
from onnxplain.contract.outputs import ALWAYS
from onnxplain.contract.precisions import INT8

from .base import check_arguments, in_utf8, read_metadata, rows_of, run_error

try:
    import onnxruntime
except ModuleNotFoundError:
    raise ImportError(
        "onnxplain.runtime needs onnxruntime: pip install 'onnxplain[cpu]', or 'onnxplain[gpu]' for CUDA"
    ) from None

from onnxplain.contract.digest import open_intact

from .external import refuse_external_data
from .in_place import in_place, metadata_text
from .memory import give_memory_back
from .optimized_cache import open_cached
from .optimizers import UNUSED
from .providers import (
    CPU,
    Provider,
    check_providers,
    device_name,
    load_libraries,
    provider_name,
    providers_of_device,
)

ERRORS_ONLY = 3  # onnxruntime warns of every flag that is an input and an initializer, which is what makes it optional


class OnnxArtifact:
    """An open ONNX file: an `Artifact`.

    Args:
        path: The file.
        device: As for `Explainer`, and so are `threads`, `cache`, `providers` and `packed`.
        threads: How many threads a run uses on the CPU; None for all cores.
        cache: On the CPU, open the file from its cache, see `optimized_cache.py`.
        providers: In place of `device`.
        packed: On the CPU, keep the weights once more for each kind of product, which makes runs faster.
        frugal: Do without what makes runs faster and takes memory: magnitudes of weights computed once, and freed
            memory kept.

    Raises:
        ArtifactError: If the file is not one that export wrote.
        OnnxplainError: If another argument is not valid.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        threads: int | None,
        cache: bool = False,
        providers: Sequence[Provider] | None = None,
        packed: bool = False,
        frugal: bool = False,
    ) -> None:
        check_arguments(path, threads)
        chosen = _choose_providers(device, providers)
        load_libraries(chosen)
        self._session, self.metadata = _open(path, chosen, threads, cache, packed, frugal)
        first, used = provider_name(chosen[0]), self._session.get_providers()[0]
        if first != used and (device != "auto" or providers is not None):
            raise OnnxplainError(f"onnxruntime cannot use {first} here and fell back to {used}; use that, or another")
        # A flag is an input with an initializer, which onnxruntime lists apart
        arguments = [*self._session.get_inputs(), *self._session.get_overridable_initializers()]
        self._inputs = {argument.name for argument in arguments}

    @property
    def device(self) -> str:
        """See `Artifact.device`."""
        return device_name(self._session.get_providers()[0])

    def run(self, images: NDArray[Any], targets: Sequence[int], outputs: Iterable[str]) -> dict[str, NDArray[Any]]:
        """See `Artifact.run`."""
        wanted = list(dict.fromkeys(outputs))
        feeds = {
            self.metadata.input: images,
            "target": rows_of(targets, len(images)),
            **{item.flag: self._flag(item.output in wanted, len(images)) for item in self.metadata.outputs},
        }
        names = [*ALWAYS, *wanted]
        try:
            values = self._session.run(names, {name: value for name, value in feeds.items() if name in self._inputs})
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise run_error("onnxruntime", len(images), len(targets), error) from None
        return dict(zip(names, values, strict=True))

    def _flag(self, wanted: bool, images: int) -> NDArray[np.bool_]:
        """A flag as the graph takes it: a required one has an entry for each image, as all inputs must for servers."""
        return np.full(images if self.metadata.flags == "required" else (), wanted)


def _choose_providers(device: str, providers: Sequence[Provider] | None) -> list[Provider]:
    if providers is None:
        return providers_of_device(device)
    if device != "auto":
        raise OnnxplainError(
            f"`device` and `providers` exclude each other, got {device} and {providers}; leave one out"
        )
    return check_providers(providers)


def _open(
    path: Path, providers: list[Provider], threads: int | None, cache: bool, packed: bool, frugal: bool
) -> tuple[onnxruntime.InferenceSession, Metadata]:
    on_cpu = [provider_name(each) for each in providers] == [CPU]
    unwanted = [*(UNUSED if on_cpu else ()), *(["ConstantFolding"] if frugal else ())]

    def start(file: Path) -> tuple[onnxruntime.InferenceSession, Metadata]:
        """Open the artifact itself or, on the CPU, a cached graph, which has its weights in a file beside it."""
        options = _session_options(threads, frugal)
        model: str | bytes = str(file)
        if file == path and on_cpu:
            small = in_place(path)
            model, folder = small.model, in_utf8(small.folder)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        elif file == path:
            refuse_external_data(path)
            model = in_utf8(path)
        if on_cpu:
            # A packed copy of a weight for each kind of its products takes more memory and time than ten runs save
            unpacked = not packed and not _is_int8(file)
            options.add_session_config_entry("session.disable_prepacking", str(int(unpacked)))
        retry = not on_cpu  # with the CPU, after printing that on standard output
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=providers, disabled_optimizers=unwanted, enable_fallback=retry
            )
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise ArtifactError(f"{path} is not an ONNX file, or it is truncated: {one_line(error)}") from None
        try:
            return session, _described(session, path)
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path}: not an onnxplain artifact: a text in it is not UTF-8: {error}") from None

    session, metadata = (open_cached if cache and on_cpu else open_intact)(path, start)
    give_memory_back()
    return session, metadata


def _session_options(threads: int | None, frugal: bool) -> onnxruntime.SessionOptions:
    """What is the same for all files and providers; `frugal` as for `OnnxArtifact`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # As the file has it, layer by layer: else what a layer leaves is kept until all are done, 3 GB for 1370 tokens
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # A plan of all buffers of a run, made at the first one, is held beside what that took: 0.2 to 0.3 GB for a ViT-B
    options.enable_mem_pattern = False
    # Else opening searches all freed values for one of the same shape, for each value: a third of its time. Memory is
    # used again all the same, through the arena
    options.enable_mem_reuse = False
    options.add_session_config_entry("session.load_model_format", "ONNX")  # and no other, whatever the file's suffix
    if frugal:
        options.enable_cpu_mem_arena = False
        options.execution_order = onnxruntime.ExecutionOrder.DEFAULT
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _is_int8(file: Path) -> bool:
    """Whether its backward passes are in int8: such weights take little memory when they are packed."""
    with suppress(OnnxplainError):  # what is wrong with the metadata is told once the file is open
        return Metadata.from_json(metadata_text(file, METADATA_KEY)).precision == INT8
    return False


def _described(session: onnxruntime.InferenceSession, path: Path) -> Metadata:
    """The file's metadata, checked against its graph."""
    metadata = read_metadata(session.get_modelmeta().custom_metadata_map.get(METADATA_KEY), path, "an ONNX")
    shapes = {argument.name: argument.shape for argument in [*session.get_inputs(), *session.get_outputs()]}
    expected: dict[str, list[int | str]] = {
        metadata.input: list(metadata.input_shape("batch")),
        **{
            name: list(metadata.full_shape(name, "batch", "targets"))
            for name in (*ALWAYS, *(item.output for item in metadata.outputs))
        },
    }
    for name, shape in expected.items():
        if name not in shapes:
            raise ArtifactError(f"{path}: not an onnxplain artifact: the graph has no {name}")
        if not _fits(shapes[name], shape):
            actual, wanted = (", ".join(map(str, sizes)) for sizes in (shapes[name], shape))
            raise ArtifactError(
                f"{path}: not an onnxplain artifact: {name} is [{actual}], its metadata says [{wanted}]"
            )
    return metadata


def _fits(actual: Sequence[int | str | None], expected: Sequence[int | str]) -> bool:
    """Whether two shapes can be the same; an open dimension is a name or None, and an unknown shape is empty."""
    pairs = zip(actual, expected, strict=False)
    same = all(size == want for size, want in pairs if isinstance(size, int) and isinstance(want, int))
    return not actual or (len(actual) == len(expected) and same)
