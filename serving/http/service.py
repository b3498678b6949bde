"""The way of questions through the service: checked, counted into the queue of their model, asked, waited for."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from starlette.requests import Request

from onnxplain.contract.errors import OnnxplainError
from onnxplain.contract.names import no_such
from onnxplain.runtime.methods.choice import call_method, call_methods, comparable_methods
from onnxplain.runtime.outcome import Outcome
from onnxplain.runtime.targets import resolve_target

from .asked import LONGEST_NAME
from .bodies import read_body
from .errors import HttpError, busy, from_error, refused
from .limits import MOST_MAPS, Limits
from .metrics import Metrics
from .questions import Answer, Explains, Model, Question, UnavailableError


class Service:
    """What the routes share.

    Attributes:
        explains: Who answers.
        limits: How much is taken.
        metrics: What is counted.
        is_stopping: Whether new requests are refused.
        under_way: How many requests are being answered.
        unsent: Bytes of answers that clients have not taken yet.
    """

    def __init__(self, explains: Explains, limits: Limits) -> None:
        self.explains, self.limits, self.metrics = explains, limits, Metrics()
        self.is_stopping, self.under_way, self.unsent = False, 0, 0
        self._receiving = 0
        self._queued: Counter[str] = Counter()
        for name in explains.models:
            self.metrics.queued(name, 0)

    def model(self, request: Request, name: str | None) -> Model:
        """The model of that name, under which the request is counted; the only one, where none is named.

        Raises:
            HttpError: 404 if there is none; 422 if it has to be named.
        """
        models = self.explains.models
        if name is None:
            if len(models) > 1:
                raise refused(f"there are several models; name one: {', '.join(models)}")
            name = next(iter(models))
        if name not in models:
            raise HttpError(404, no_such("model", name[:LONGEST_NAME], models))
        request.scope["onnxplain.model"] = name
        return models[name]

    async def body(self, request: Request, model: Model) -> bytes:
        """The request's body, which is not read where the request is refused in any case.

        Raises:
            HttpError: 429 if the model's queue is full, 503 if the service stops or receives too much; and as
                `read_body` does.
        """
        if self.is_stopping:
            raise busy(503, "the service is stopping")
        self._check_queue(model, 1)
        if self.unsent > self.limits.unsent:
            raise busy(503, f"clients have not taken {self.unsent} bytes of answers; ask again later")
        if self._receiving >= self.limits.receiving:
            raise busy(503, f"the service is receiving {self._receiving} requests, which is the limit; ask again later")
        self._receiving += 1
        try:
            return await read_body(request, self.limits)
        finally:
            self._receiving -= 1

    async def ask(self, model: Model, questions: Sequence[Question], values: int | None = None) -> list[Answer]:
        """The answers, in order.

        Args:
            model: Who is asked.
            questions: One for each image; they share the limits on runs and on values of maps.
            values: That the maps may hold together; None for the limit.

        Raises:
            HttpError: 422 if one of the questions is not valid, 429 if the queue is full, 503 if answering takes too
                long or nobody is there to answer.
        """
        if len(questions) > self.limits.images:
            raise refused(f"a request may have {self.limits.images} images, this one has {len(questions)}")
        for asked in {(question.methods, question.targets) for question in questions}:
            self._check(model, *asked, len(questions))
        share = (self.limits.values if values is None else values) // len(questions)
        with self._in_queue(model, len(questions)):
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    outcomes = await self._ask_together(
                        model, [replace(question, most_values=share) for question in questions]
                    )
            except TimeoutError:
                raise busy(503, f"there was no answer within {self.limits.answer_seconds:g} seconds") from None
            except UnavailableError:
                raise busy(503, f"model {model.name} is not there now; ask again later") from None
        answers = []
        for place, outcome in enumerate(outcomes):
            if outcome.error is not None:
                error = from_error(outcome.error)
                error.message = error.message if len(questions) == 1 else f"the image at index {place}: {error.message}"
                raise error
            self.metrics.explained(model.name, outcome.value.together)
            answers.append(outcome.value)
        return answers

    async def _ask_together(self, model: Model, questions: Sequence[Question]) -> list[Outcome[Answer]]:
        """What came of each question; where one cannot be answered, the others are given up."""
        tasks: list[asyncio.Task[Outcome[Answer]]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for question in questions:
                    tasks.append(group.create_task(self.explains.ask(model.name, question)))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _check(
        self, model: Model, methods: tuple[str, ...] | None, targets: tuple[int | str, ...], images: int
    ) -> None:
        """Raise HttpError unless the model has these methods and targets, and they are not too many."""
        if methods is None:
            return
        if not targets:
            raise refused("the list of targets is empty; give at least one class, label or rank")
        if max(1, len(methods)) * len(targets) > MOST_MAPS:
            raise refused(f"a request may ask for {MOST_MAPS} maps of an image: methods times targets; ask for fewer")
        metadata = model.metadata
        try:
            calls = call_methods(methods, metadata) if methods else (call_method(None, {}, metadata),)
            for target in targets:
                resolve_target(target, metadata.labels)
        except OnnxplainError as error:
            raise refused(str(error)) from None
        served, _ = comparable_methods(metadata)
        for call in calls:
            if all(call.method.name != method.name for method in served):
                raise refused(f"method {call.method.name} is not served, as it takes long for this model")
        runs = images * sum(call.runs for call in calls)
        if runs > self.limits.runs:
            raise refused(f"the methods need {runs} runs of the model for this request, more than {self.limits.runs}")

    def _check_queue(self, model: Model, images: int) -> None:
        if self._queued[model.name] + images > self.limits.queue:
            raise busy(429, f"the queue of model {model.name} is full; ask again later")

    @contextmanager
    def _in_queue(self, model: Model, images: int) -> Iterator[None]:
        self._check_queue(model, images)
        self._queued[model.name] += images
        self.metrics.queued(model.name, self._queued[model.name])
        try:
            yield
        finally:
            self._queued[model.name] -= images
            self.metrics.queued(model.name, self._queued[model.name])
