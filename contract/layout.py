"""Which token of an attention matrix is what."""

from dataclasses import dataclass, field
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
        row: Of an attention pool, how much it reads of each token, [N]; None where the head reads the rows in
            `readout` alike.
    """

    readout: tuple[int, ...]
    prefix_tokens: int
    patch_grid: tuple[int, int]
    row: NDArray[Any] | None = field(default=None, compare=False)

    @property
    def tokens(self) -> int:
        """N, the number of tokens in the attention matrices."""
        return self.prefix_tokens + self.patch_grid[0] * self.patch_grid[1]

    def readout_row(self) -> NDArray[np.float64]:
        """The readout vector e, float64 [N], which sums to 1 unless a pool's attention was weighted by something."""
        if self.row is not None:
            return self.row.astype(np.float64)
        row = np.zeros(self.tokens)
        row[list(self.readout)] = 1 / len(self.readout)
        return row

    def patches(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """The patch entries of a row over tokens [N], as a token map [h, w]."""
        return row[self.prefix_tokens :].reshape(self.patch_grid)
