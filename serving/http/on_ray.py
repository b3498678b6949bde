"""Explains on Ray Serve: a deployment for each model, with replicas that batch what comes at the same time.

Ray's own HTTP proxy is left out. It has no limit on the size of bodies, and none on slow senders; so `server.py` speaks
HTTP, and Ray Serve does what it is good at: it starts the replicas, chooses one for each question, and replaces those
that die.
"""

import asyncio
import logging
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what Ray would tell its makers

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.runtime.outcome import Outcome

from .answering import answer_all, open_explainer
from .limits import Limits
from .questions import Answer, Model, Question, UnavailableError

TOGETHER = 8
"""Questions that a replica takes at once; the Explainer makes one run of them, or several where they are too large."""
WAIT_SECONDS = 0.005
"""For how long an idle replica waits for a second question; one that is busy gathers them meanwhile."""
STORE_BYTES = 2**29
"""Of memory that Ray shares between its processes, for images on their way."""
QUIET = LoggingConfig(log_level="ERROR", enable_access_log=False)


class Replica:
    """A process with an Explainer of its own."""

    def __init__(self, path: str, threads: int, max_pixels: int) -> None:
        self._explainer = open_explainer(path, threads, max_pixels)
        self._explainer.explain(np.zeros((8, 8, 3), np.uint8))  # a first run is slower

    @serve.batch(max_batch_size=TOGETHER, batch_wait_timeout_s=WAIT_SECONDS)  # type: ignore[untyped-decorator]
    async def ask(self, questions: list[Question]) -> list[Outcome[Answer]]:
        """The answers of what came together, in order."""
        return await asyncio.to_thread(answer_all, self._explainer, questions)


class OnRay:
    """An `Explains`, with the handles of the deployments.

    Attributes:
        models: By name.
    """

    def __init__(self, models: Mapping[str, Model], handles: Mapping[str, Any]) -> None:
        self.models, self._handles = models, handles

    async def ask(self, model: str, question: Question) -> Outcome[Answer]:
        """See `Explains`."""
        response = self._handles[model].ask.remote(question)
        try:
            outcome: Outcome[Answer] = await response
        except RayTaskError:  # nobody expected what went wrong in the replica
            raise
        except (RayError, RayServeException) as error:
            raise UnavailableError(str(error)) from None
        except asyncio.CancelledError:
            response.cancel()
            raise
        return outcome


@contextmanager
def on_ray(models: Mapping[str, Model], replicas: int, limits: Limits) -> Iterator[OnRay]:
    """Start Ray on this machine, and so many replicas of each model; all ends with the block."""
    wanted = replicas * len(models)
    threads = max(1, len(os.sched_getaffinity(0)) // wanted)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",
        num_cpus=wanted * threads,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray sets one of its own
    try:
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        handles = {}
        for number, model in enumerate(models.values()):
            deployment = serve.deployment(
                max_ongoing_requests=2 * TOGETHER, num_replicas=replicas, ray_actor_options={"num_cpus": threads}
            )(Replica)
            bound = deployment.bind(str(Path(model.artifact).absolute()), threads, limits.pixels)
            try:
                name = f"{number}_{re.sub('[^A-Za-z0-9]', '_', model.name)}"  # any other, and Ray may wait without end
                handles[model.name] = serve.run(bound, name=name, route_prefix=None, logging_config=QUIET)
            except RuntimeError as error:
                raise OnnxplainError(f"Ray Serve cannot start model {model.name}: {one_line(error)}") from None
        yield OnRay(models, handles)
    finally:
        ray.shutdown()
