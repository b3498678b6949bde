"""What came of each of many images: a result or an error, and the iterator over them."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from onnxplain.contract.errors import OnnxplainError

T = TypeVar("T")
U = TypeVar("U")


class Outcome(Generic[T]):
    """A result, or the error that stands in its place.

    Attributes:
        error: The OnnxplainError; None where there is a result.
    """

    __slots__ = ("_value", "error")

    def __init__(self, value: T | None = None, error: OnnxplainError | None = None) -> None:
        self._value, self.error = value, error

    @classmethod
    def of(cls, function: Callable[..., T], *arguments: Any) -> "Outcome[T]":
        """The result of a call, or the OnnxplainError that it raises; other exceptions pass."""
        try:
            return cls(function(*arguments))
        except OnnxplainError as error:
            return cls(error=error)

    def then(self, function: Callable[[T], U]) -> "Outcome[U]":
        """The outcome of calling `function` with this result; the error stays if there is one."""
        return Outcome(error=self.error) if self.error is not None else Outcome.of(function, self.value)

    @property
    def value(self) -> T:
        """The result.

        Raises:
            OnnxplainError: If there is an error in its place.
        """
        if self.error is None:
            return self._value  # type: ignore[return-value]
        try:
            raise self.error
        finally:
            del self  # the error's traceback holds this frame: through it, the error would hold itself


class Explanations(Iterator[T]):
    """The results for many images, one for each, in the order of the images.

    They are computed as they are asked for. Where an image cannot be explained, `next()` raises its OnnxplainError, and
    the `next()` after that goes on with the image that follows. A `for` loop ends at the first error, as always;
    `outcomes()` is for loops that are to go on::

        for path, outcome in zip(paths, explainer.explain_many(paths).outcomes()):
            if outcome.error:
                print(f"{path}: {outcome.error}")
            else:
                outcome.value.overlay().save(f"{path}.map.png")

    An exception that the caller's own iterable raises comes after the results for the images before it, and is the end.
    Threads that prepare images end with the iteration, or when this iterator is dropped.
    """

    def __init__(self, outcomes: Iterator[Outcome[T]]) -> None:
        self._outcomes = outcomes

    def __next__(self) -> T:
        """The next result; raises the image's error in its place."""
        outcome = next(self._outcomes)
        try:
            return outcome.value
        finally:
            del outcome, self  # a caller that keeps the error keeps this frame, and must not keep the threads with it

    def outcomes(self) -> Iterator[Outcome[T]]:
        """The same results, each as an `Outcome` that holds the result or the error, so that none is raised."""
        return self._outcomes
