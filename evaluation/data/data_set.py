"""A data set: samples by their place in it, made when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

from ..samples import Sample

Item = TypeVar("Item")


@dataclass(frozen=True)
class DataSet(Sequence[Sample]):
    """Samples in a fixed order. Each is made when it is asked for; image files are opened by whoever explains them.

    It can be pickled.

    Attributes:
        description: What it is, in one line for reports, whatever the number of samples.
        names: Of the samples, all different.
        make: From a place in `names` to the sample of that name.
        warnings: One line for each thing that was skipped while it was opened.
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


def of_samples(description: str, samples: Sequence[Sample], warnings: Sequence[str]) -> DataSet:
    """A data set of samples that are there already."""
    samples = tuple(samples)
    names = tuple(sample.name for sample in samples)
    return DataSet(description, names, samples.__getitem__, tuple(warnings))


def spread(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """At most `limit` of the items, in their order, as evenly from all of them as can be: so all classes are there."""
    if limit is None or limit >= len(items):
        return items
    return [items[place * len(items) // limit] for place in range(limit)]


def first_few(names: Sequence[str], shown: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
