"""A method with its arguments, and its text, such as `rollout:head_fusion=max,discard_ratio=0.9`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from onnxplain.contract.errors import MethodError
from onnxplain.contract.metadata import Metadata

from .attention_maps import Array, array_namespace
from .method import Method


def split_text(text: object) -> tuple[Any, dict[str, str]]:
    """The name that the text begins with, and the parameters behind it, as texts by name.

    Raises:
        MethodError: If what stands behind the colon are no parameters.
    """
    if not isinstance(text, str) or ":" not in text:
        return text, {}
    name, _, rest = text.partition(":")
    parameters: dict[str, str] = {}
    for part in rest.split(","):
        parameter, equals, value = (item.strip() for item in part.partition("="))
        parameter = parameter.casefold().replace("-", "_")
        if not (parameter and equals and value) or parameter in parameters:
            raise MethodError(
                f"a method with parameters is written as name:parameter=value,parameter=value, each once, got {text!r}"
            )
        parameters[parameter] = value
    return name, parameters


class MethodCall(NamedTuple):
    """A method and its full set of arguments.

    Attributes:
        method: The row of the table.
        arguments: By name.
        key: What results are called by: the method's name, with the parameters that stood behind it.
    """

    method: Method
    arguments: dict[str, Any]
    key: str

    @property
    def bound(self) -> tuple[tuple[str, ...], dict[str, Any]]:
        """See `Method.bind`."""
        return self.method.bind(self.arguments)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that it needs of the run that all methods share; none if it has runs of its own."""
        return () if self.method.runs else self.bound[0]

    @property
    def runs(self) -> int:
        """How many runs of its own it needs for an image."""
        return int(self.arguments[self.method.runs]) if self.method.runs else 0

    def map(self, outputs: Mapping[str, Array], pixels: Array, readout: Array, metadata: Metadata) -> Array:
        """The map of a method that needs no runs of its own, from the graph's outputs.

        All are NumPy arrays or all are tensors, with leading axes, such as batch and targets, that broadcast.

        Args:
            outputs: By name; beside those in `outputs` those of the attention pool, if there is one.
            pixels: The model's input, [..., 3, H, W], in the dtype that the map is to be computed in.
            readout: `Layout.readout_row()`, [N], in that dtype.
            metadata: The artifact's.

        Returns:
            [..., h, w], the patch grid, or for `pixel_level` methods [..., H, W].
        """
        names, rest = self.bound
        given = [outputs[name] for name in names]
        if self.method.pixel_level:
            return self.method.function(*given, pixels=pixels, **rest)
        pool = metadata.with_pool(names)[len(names) :]
        if pool:
            readout = array_namespace(readout).astype(outputs[pool[0]], readout.dtype, copy=False)
        return self.method.function(*given, readout=readout, layout=metadata.layout, **rest)
