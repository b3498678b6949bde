"""Numbers in full in programs of float64: an exporter writes those that are no tensors as float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from onnxplain.lrp_graph.torch_internals import schema_of

from .double_ops import is_single


class ExactNumbers:
    """Tensors of float64 that stand for numbers which float32 does not have; one for equal ones."""

    def __init__(self, open_size: int) -> None:
        """Axes are open whose size is at least ``open_size``."""
        self._open_size = open_size
        self._tensors: dict[tuple[float, tuple[int, ...]], Tensor] = {}

    def arguments(
        self, op: Any, args: Any, kwargs: dict[str, Any], dtype: Callable[[], torch.dtype]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an op with tensors in place of such numbers.

        To ops that make a tensor of nothing the exporter gives float32 as well, unless they say another dtype.

        Args:
            op: The op.
            args: Its arguments.
            kwargs: Those that are named.
            dtype: Gives that of the result.

        Raises:
            NotImplementedError: The op takes no tensor in place of a number.
        """
        arguments = schema_of(op).arguments
        types = [str(argument.type) for argument in arguments]
        row = next((tuple(value.shape[-1:]) for value in args if isinstance(value, Tensor)), ())
        exact = [value if is_single(value) else self._tensor(value, row) for value in args]
        changed = {kind for kind, before, after in zip(types, args, exact, strict=False) if after is not before}
        if changed - {"Tensor"} or not all(map(is_single, kwargs.values())):
            raise NotImplementedError(f"{op} of a number that float32 does not have")
        if "Tensor" not in types and "dtype" in {argument.name for argument in arguments}:
            kwargs = {**kwargs, "dtype": dtype()}
        return tuple(exact), kwargs

    def _tensor(self, number: float, row: tuple[int, ...]) -> Tensor:
        """A tensor that stands for a number.

        Where the axis is not open it is a row of equal numbers: of a factor that is one number, onnxruntime makes an
        attribute of a product of matrices, which is float32.
        """
        shape = row if max(row, default=0) < self._open_size else ()
        if (number, shape) not in self._tensors:
            self._tensors[number, shape] = torch.full(shape, number, dtype=torch.float64)
        return self._tensors[number, shape]
