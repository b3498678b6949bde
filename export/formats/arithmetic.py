"""What each precision means for a program: in which dtype weights are stored, and in which it computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from onnxplain.contract.precisions import FLOAT16, FLOAT32, FLOAT64, INT8, PRECISIONS


@dataclass(frozen=True)
class Arithmetic:
    """One precision.

    Attributes:
        computed: The dtype of arithmetic; inputs and outputs are float32 in any case.
        stored: The dtype of large weights. The model's are float32, so that float64 would store nothing more.
    """

    computed: torch.dtype = torch.float32
    stored: torch.dtype = torch.float32

    @property
    def in_double(self) -> bool:
        """Whether arithmetic is in float64."""
        return self.computed == torch.float64


ARITHMETIC = {
    FLOAT32: Arithmetic(),
    INT8: Arithmetic(),  # of which the fused graph is made
    FLOAT16: Arithmetic(stored=torch.float16),
    FLOAT64: Arithmetic(computed=torch.float64),
}
"""By the name of the precision."""
assert ARITHMETIC.keys() == PRECISIONS.keys(), ARITHMETIC.keys() ^ PRECISIONS.keys()
