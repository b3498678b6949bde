"""Which token of an attention matrix is what."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """Which token is what: the prefix tokens (CLS first), then the patches in row-major order.

    Attributes:
        readout: The token rows that the classification head reads.
        prefix_tokens: How many tokens stand before the patches.
        patch_grid: (h, w), rows and columns of patches.
    """

    readout: tuple[int, ...]
    prefix_tokens: int
    patch_grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        """N, the number of tokens in the attention matrices."""
        return self.prefix_tokens + self.patch_grid[0] * self.patch_grid[1]

    def readout_row(self) -> NDArray[np.float64]:
        """The readout vector e of a head that reads the rows in `readout` alike, float64 [N], which sums to 1."""
        row = np.zeros(self.tokens)
        row[list(self.readout)] = 1 / len(self.readout)
        return row

    def patches(self, row: Any) -> Any:
        """The patch entries of a row over tokens [..., N], an array or a tensor, as a token map [..., h, w]."""
        return row[..., self.prefix_tokens :].reshape((*row.shape[:-1], *self.patch_grid))
