"""Explains in the service's own process, one question at a time: for a small service, and for tests."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from onnxplain.runtime import Explainer
from onnxplain.runtime.outcome import Outcome

from .answering import answer_all
from .questions import Answer, Model, Question


class InProcess:
    """An `Explains`, with an Explainer for each model.

    Attributes:
        models: By name.
    """

    def __init__(self, models: Mapping[str, Model], explainers: Mapping[str, Explainer]) -> None:
        self.models, self._explainers = models, explainers
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, model: str, question: Question) -> Outcome[Answer]:
        """See `Explains`."""
        work = asyncio.get_running_loop().run_in_executor(self._thread, answer_all, self._explainers[model], [question])
        [outcome] = await work
        return outcome
