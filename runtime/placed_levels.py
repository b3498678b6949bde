"""What `overlay` draws of a map, at the pixels of the image: where it is highest, and where its high values lie."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .figures.drawable import Drawable
from .figures.scale import drawn_map, find_scale
from .images.geometry import Map, Window

PARTS = 5  # the highest values that are boxed in hold one part of so many
KEPT = 2**24  # pixels whose values are kept, 64 MiB; of more, they are computed each time that they are gone through
DIGITS = (11, 11, 10)  # the bits of a float32, in the parts by which values are sorted


class PlacedLevels:
    """The map that `overlay` draws, placed on the image, as shares of the scale that its colours span.

    It comes in bands of whole rows, as of the largest images all values would be too many.

    Args:
        item: The explanation.
    """

    def __init__(self, item: Drawable) -> None:
        scale, self._placement = find_scale(item), item.placement
        self._levels = None if scale is None else scale.scaled(drawn_map(item))
        rows, columns = self._placement.seen
        pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
        self._kept = list(self._placed()) if pixels <= KEPT else None

    def __iter__(self) -> Iterator[tuple[Window, Map]]:
        """The bands of what the model saw: each one's window in the image, and its values. None if nothing is drawn."""
        return self._placed() if self._kept is None else iter(self._kept)

    def _placed(self) -> Iterator[tuple[Window, Map]]:
        return iter(()) if self._levels is None else self._placement.place_seen(self._levels)

    def peak(self) -> tuple[int, int] | None:
        """See `Explanation.peak`."""
        tops = [values.max() for _, values in self]
        highest = max(tops, default=0.0)
        if highest <= 0:
            return None
        # How often it occurs in each band: the places would be too many
        counts = np.cumsum([np.count_nonzero(values == highest) for _, values in self])
        middle = counts[-1] // 2
        chosen = int(np.searchsorted(counts, middle, side="right"))
        for number, ((rows, columns), values) in enumerate(self):
            if number == chosen:
                peaks = np.nonzero(values == highest)[0]
                y = peaks[middle - counts[chosen]]  # counted from the band's end
                x = np.flatnonzero(values[y] == highest)
                return rows.start + int(y), columns.start + int(x[len(x) // 2])
        raise AssertionError("the bands changed")

    def upper_fifth(self) -> list[int] | None:
        """The smallest box around the highest values which together hold a fifth of what is drawn.

        What counts is how far a value lies above the lowest that is drawn: 0, or the map's minimum where that is higher
        or the map is relative. Values below count nothing. Let t be the greatest value such that the pixels of t or
        more hold at least a fifth of the sum over all pixels. The box contains these pixels, and no row or column more.

        Returns:
            [left, top, right, bottom]; None if nothing is drawn.
        """
        lowest = self._lowest_of_part()
        if lowest is None:
            return None
        boxes = []
        for (rows, columns), values in self:
            high = values >= lowest
            ys, xs = np.flatnonzero(high.any(axis=1)), np.flatnonzero(high.any(axis=0))
            if len(ys):
                top, left = rows.start, columns.start
                boxes.append((left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1))
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return [int(min(lefts)), int(min(tops)), int(max(rights)), int(max(bottoms))]

    def _lowest_of_part(self) -> np.float32 | None:
        """The greatest value such that those not below it hold one part of PARTS of the sum; None if none is above 0.

        As sorting would find it, but without holding all values. Positive float32 are in the order of their bits as
        integers. So the sums of values are taken by the uppermost bits, then of those with the uppermost bits that are
        found by the next, and then by the last.
        """
        found, above, total, shift = np.uint32(0), 0.0, 0.0, sum(DIGITS)
        for digit in DIGITS:
            sums, before, shift = np.zeros(2**digit), shift, shift - digit
            for _, values in self:
                positive = values[values > 0]
                bits = positive.view(np.uint32)
                inside = bits >> before == found  # all of them at first
                sums += np.bincount(bits[inside] >> shift & (len(sums) - 1), positive[inside], len(sums))
            if not total:
                total = float(sums.sum())
                if total == 0:
                    return None
            place, more = _from_top(sums, total / PARTS - above)
            found, above = np.uint32(int(found) << digit | place), above + more
        return found.view(np.float32)


def _from_top(sums: NDArray[np.float64], wanted: float) -> tuple[int, float]:
    """The last place down from which the sums reach what is wanted, or the first that has any; and the sum above it."""
    places = np.flatnonzero(sums)[::-1]
    reached = np.concatenate([[0.0], np.cumsum(sums[places])])
    above = min(int(np.searchsorted(reached[1:], wanted)), len(places) - 1)
    return int(places[above]), float(reached[above])
