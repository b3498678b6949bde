"""Arithmetic in a graph under construction, written as in NumPy."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from onnx_ir import tape

INT, DOUBLE, FLOAT, BYTE, BOOL = (
    ir.DataType.INT64,
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT,
    ir.DataType.UINT8,
    ir.DataType.BOOL,
)


class Nodes(tape.Tape):
    """The nodes that are made, in order; equal constants are one."""

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[tuple[ir.DataType, tuple[int, ...], bytes], ir.Value] = {}

    def constant(self, values: Any, dtype: ir.DataType) -> ir.Value:
        """A constant of this type."""
        array = np.asarray(values, dtype.numpy())
        key = dtype, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.op("Constant", [], {"value": ir.tensor(array)})
        return self._constants[key]


class Expression:
    """A value of the graph; what is calculated with it becomes nodes.

    Operators and methods take expressions of the same type, or numbers, which become constants of this type.

    Attributes:
        nodes: Gets the nodes.
        value: The value.
        dtype: Its type.
    """

    def __init__(self, nodes: Nodes, value: ir.Value, dtype: ir.DataType) -> None:
        """Wrap a value."""
        self.nodes, self.value, self.dtype = nodes, value, dtype

    def op(
        self, name: str, *others: Operand | list[int], dtype: ir.DataType | None = None, **attributes: Any
    ) -> Expression:
        """A node that reads this value first.

        Args:
            name: Of the op.
            others: Its further inputs; a list is one of integers, whatever type this value has.
            dtype: Of the result, unless it is this value's.
            attributes: Of the node.
        """
        inputs = [self, *(self._operand(other) for other in others)]
        value = self.nodes.op(name, [item.value for item in inputs], attributes)
        return Expression(self.nodes, value, dtype or self.dtype)

    def constant(self, values: Any, dtype: ir.DataType | None = None) -> Expression:
        """A constant of the given type, or of this value's."""
        dtype = dtype or self.dtype
        return Expression(self.nodes, self.nodes.constant(values, dtype), dtype)

    def _operand(self, other: Operand | list[int]) -> Expression:
        if isinstance(other, Expression):
            return other
        return self.constant(other, INT if isinstance(other, list) else self.dtype)

    def cast(self, dtype: ir.DataType) -> Expression:
        """The same in another type; to integers, towards zero."""
        return self.op("Cast", dtype=dtype, to=dtype)

    def length(self, axis: int) -> Expression:
        """The length of an axis, INT [1]."""
        return self.op("Shape", dtype=INT, start=axis, end=axis + 1)

    def scalar(self) -> Expression:
        """The only entry, without axes."""
        return self.op("Squeeze")

    def join(self, *others: Operand | list[int], axis: int = 0) -> Expression:
        """This and then the others along an axis."""
        return self.op("Concat", *others, axis=axis)

    def reshape(self, *lengths: Expression | int) -> Expression:
        """With axes of these lengths, INT [1] or known."""
        shape = [self.constant([item], INT) if isinstance(item, int) else item for item in lengths]
        return self.op("Reshape", shape[0].join(*shape[1:]), allowzero=1)

    def transpose(self, *axes: int) -> Expression:
        """With the axes in this order."""
        return self.op("Transpose", perm=axes)

    def part(self, axis: int, first: int, end: int) -> Expression:
        """The entries first .. end along an axis."""
        return self.op("Slice", [first], [end], [axis])

    def unsqueeze(self, axis: int) -> Expression:
        """With one axis more, of length 1."""
        return self.op("Unsqueeze", [axis])

    def range(self) -> Expression:
        """The numbers from 0 to below this one, a scalar."""
        return self.constant(0).op("Range", self, 1)

    def maximum(self, other: Operand) -> Expression:
        """The larger of two, entry by entry."""
        return self.op("Max", other)

    def minimum(self, other: Operand) -> Expression:
        """The smaller of two, entry by entry."""
        return self.op("Min", other)

    def floor(self) -> Expression:
        """Rounded down."""
        return self.op("Floor")

    def where(self, yes: Expression, no: Operand) -> Expression:
        """By this condition the one or the other."""
        return self.op("Where", yes, yes._operand(no), dtype=yes.dtype)

    def __add__(self, other: Operand) -> Expression:
        """Their sum."""
        return self.op("Add", other)

    def __sub__(self, other: Operand) -> Expression:
        """Their difference."""
        return self.op("Sub", other)

    def __mul__(self, other: Operand) -> Expression:
        """Their product."""
        return self.op("Mul", other)

    def __truediv__(self, other: Operand) -> Expression:
        """Their quotient; of integers, towards zero."""
        return self.op("Div", other)

    def __matmul__(self, other: Expression) -> Expression:
        """Their matrix product."""
        return self.op("MatMul", other)

    def __lt__(self, other: Operand) -> Expression:
        """Whether it is less."""
        return self.op("Less", other, dtype=BOOL)

    def __le__(self, other: Operand) -> Expression:
        """Whether it is less or equal."""
        return self.op("LessOrEqual", other, dtype=BOOL)

    def __gt__(self, other: Operand) -> Expression:
        """Whether it is greater."""
        return self.op("Greater", other, dtype=BOOL)

    def __ge__(self, other: Operand) -> Expression:
        """Whether it is greater or equal."""
        return self.op("GreaterOrEqual", other, dtype=BOOL)

    def __and__(self, other: Expression) -> Expression:
        """Whether both hold."""
        return self.op("And", other)


Operand: TypeAlias = Expression | int | float
