"""The arguments of a plain artifact: which heatmaps can be computed in the graph, with which flags and input."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.formats import DEFAULT
from onnxplain.contract.names import no_such
from onnxplain.contract.outputs import FLAGS, INPUTS

from .choice import Methods, known_method
from .table import METHODS


def checked_heatmaps(
    heatmaps: Methods | None, format: str, passes: Sequence[str] | None, flags: str | None, input: str
) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Check what export_model is told of a plain artifact, as far as that is possible without a model.

    Args:
        heatmaps: As for export_model, and so are the others.
        format: The file's.
        passes: Those given.
        flags: The kind given, None for what suits the methods.
        input: What the file takes.

    Returns:
        By method the parameters given, whose values only a model can tell to be valid; and the kind of flags.

    Raises:
        OnnxplainError: One of them is not valid, or two exclude each other.
    """
    methods = {} if heatmaps is None else _checked_methods(heatmaps, format, passes)
    flags = _checked_flags(flags, methods)
    _check_input(input, methods)
    return methods, flags


def _checked_methods(heatmaps: Methods, format: str, passes: Sequence[str] | None) -> dict[str, Mapping[str, Any]]:
    """By method the parameters given."""
    if format != DEFAULT:
        raise OnnxplainError(f"`heatmaps` are for files in the format {DEFAULT}, got `format` {format}")
    if passes is not None:
        raise OnnxplainError("`heatmaps` and `passes` exclude each other: the methods decide which passes are needed")
    if isinstance(heatmaps, str) or not isinstance(heatmaps, Iterable):
        right = [heatmaps] if isinstance(heatmaps, str) else ["transformer_attribution"]
        raise OnnxplainError(
            f"`heatmaps` must be a list of methods, or a mapping of methods to parameters, got {heatmaps!r}; "
            f"write {right}"
        )
    found: dict[str, Mapping[str, Any]] = {}
    for name in heatmaps:
        method = known_method(name)
        if not method.in_graph:
            possible = ", ".join(item.name for item in METHODS.values() if item.in_graph)
            why = "it needs many runs of the graph" if method.runs else "its function works on NumPy arrays only"
            raise OnnxplainError(f"the map of {method.name} cannot be computed in the graph: {why}; use {possible}")
        if method.name in found:
            raise OnnxplainError(f"method {method.name} is given twice; give it once")
        given = heatmaps[name] if isinstance(heatmaps, Mapping) else {}
        if not isinstance(given, Mapping):
            raise OnnxplainError(f"the parameters of {name} must be a mapping of names to values, got {given!r}")
        found[method.name] = given
    if not found:
        raise OnnxplainError("the list of `heatmaps` is empty; give at least one method, or None for a full artifact")
    return {name: found[name] for name in METHODS if name in found}


def _checked_flags(flags: str | None, methods: Mapping[str, Any]) -> str:
    """Those that the file gets: `optional` in a full artifact, `none` where there is one heatmap."""
    if flags is not None and flags not in FLAGS:
        raise OnnxplainError(no_such("kind of flags", flags, FLAGS))
    if len(methods) > 1:
        return flags or "required"
    if flags is not None and (flags != "none" or not methods):
        raise OnnxplainError(
            "`flags` needs two or more methods in `heatmaps`, of which each then has one; leave it out"
        )
    return "none" if methods else "optional"


def _check_input(input: str, methods: Mapping[str, Any]) -> None:
    if input not in INPUTS:
        raise OnnxplainError(no_such("input", input, INPUTS))
    if input != "pixels" and not methods:
        raise OnnxplainError(f"`input` {input} is for files whose outputs are `heatmaps`; name their methods as well")
