"""The numbers that an artifact stores and computes with."""

from .errors import OnnxplainError
from .formats import DEFAULT
from .names import no_such

FLOAT32, INT8, FLOAT16, FLOAT64 = "float32", "int8", "float16", "float64"

PRECISIONS = {
    FLOAT32: "weights and arithmetic in float32",
    INT8: "products with weights in backward passes in int8, the rest in float32",
    FLOAT16: "weights stored as float16, arithmetic in float32",
    FLOAT64: "arithmetic in float64",
}
"""By name, what it means. Inputs and outputs are float32 in each."""


def check_precision(precision: str, format: str) -> None:
    """Raise OnnxplainError unless export writes files of ``format``, a name in FORMATS, with this precision."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise OnnxplainError(no_such("precision", precision, PRECISIONS))
    if precision != FLOAT32 and format != DEFAULT:
        raise OnnxplainError(
            f"`precision` {precision} is for files of the format {DEFAULT}, those of {format} are in {FLOAT32}; "
            "leave it out, or choose that format"
        )
