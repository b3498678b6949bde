"""A data set: samples by their place in it, made when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

from ..samples import Sample


@dataclass(frozen=True)
class DataSet(Sequence[Sample]):
    """Samples in a fixed order. Each is made when it is asked for; image files are opened by whoever explains them.

    It can be pickled.

    Attributes:
        description: What it is, in one line for reports.
        names: Of the samples, all different.
        make: From a place in `names` to the sample of that name.
        warnings: One line for each thing that was skipped or chosen while it was opened.
    """

    description: str
    names: Sequence[str]
    make: Callable[[int], Sample]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        places = range(len(self.names))[index]
        return self.make(places) if isinstance(places, int) else [self.make(place) for place in places]
