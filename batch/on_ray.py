"""Shards explained on Ray Data, on this machine or on a cluster."""

import logging
import os
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from onnxplain.contract.errors import OnnxplainError, one_line
from onnxplain.runtime.outcome import Outcome

from .output import Shard
from .settings import Opening, Settings
from .worker import Worker

LOCAL = "local"
"""The address that stands for a cluster of this machine alone, which ends with the batch."""
CONNECT_SECONDS = 10


def explain_on_ray(
    settings: Settings,
    opening: Opening,
    folder: Path,
    shards: Sequence[Shard],
    jobs: int | None,
    address: str,
) -> Generator[int, None, None]:
    """Explain shards on Ray Data; yields the number of each when it is finished.

    Each worker has a model of its own. Where one ends, Ray starts another, which goes on with the shard.

    Args:
        settings: What is asked of every image.
        opening: How workers open the artifact; `threads` are the CPUs of each, 1 if None, and on CUDA each has a GPU.
        folder: The folder of the batch. All machines have to have it, the artifact and the images at the same paths.
        shards: What is to be explained.
        jobs: How many workers; None for as many as there is room for.
        address: Of a cluster, as `ray.init` takes it, or LOCAL.

    Raises:
        OnnxplainError: As in a worker, or if there is no such cluster.
    """
    cpus, gpus = opening.threads or 1, 1 if opening.device == "cuda" else 0
    opening = replace(opening, threads=cpus)
    with _connected(address, jobs, cpus):
        room = ray.cluster_resources()
        most = int(min(room.get("CPU", 0) // cpus, room.get("GPU", 0) // gpus if gpus else np.inf))
        if most < 1:
            there = f"{room.get('CPU', 0):g} CPUs and {room.get('GPU', 0):g} GPUs"
            raise OnnxplainError(f"the Ray cluster has {there}, and a worker needs {cpus} and {gpus}")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [asdict(shard) for shard in shards]
        workers = min(jobs or most, most, len(shards))
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _RayWorker,
            batch_size=1,
            fn_constructor_args=(settings, opening, folder),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        for row in done.iter_rows():
            if row["error"]:
                raise OnnxplainError(row["error"])
            yield int(row["number"])


def _check_reachable(address: str) -> None:
    """Raise OnnxplainError if nobody listens there: Ray itself would try for two minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise OnnxplainError(
            f"there is no Ray cluster at {address}: {getattr(error, 'strerror', None) or error}"
        ) from None


class _RayWorker:
    """A worker as Ray Data takes it."""

    def __init__(self, settings: Settings, opening: Opening, folder: Path) -> None:
        self._arguments = settings, opening, folder

    @cached_property
    def _worker(self) -> Worker:
        """Made with the first shard, so that its errors are told as those of shards are."""
        return Worker(*self._arguments)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Explain the shard in the batch; an error of ours is told as a text, as Ray would add pages to it."""
        (number,), (inputs,), (group,), (images,) = (batch[each.name] for each in fields(Shard))
        shard = Shard(int(number), str(inputs), int(group), int(images))
        error = Outcome.of(lambda: self._worker.explain(shard)).error  # which opens the artifact, the first time
        return {"number": batch["number"], "error": np.array(["" if error is None else str(error)])}


@contextmanager
def _connected(address: str, jobs: int | None, cpus: int) -> Iterator[None]:
    """A connection to the cluster until the end of the block; one that the program already has stays."""
    if ray.is_initialized():
        yield
        return
    _check_reachable(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray would tell its makers about its use
    try:
        if address == LOCAL:
            ray.init(num_cpus=jobs * cpus if jobs else None, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if "InvalidAuthToken" in str(error.__cause__):
            raise OnnxplainError(
                f"the Ray cluster at {address} wants a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN if it is "
                "not in ~/.ray/auth_token"
            ) from None
        raise OnnxplainError(f"there is no Ray cluster at {address}: {one_line(error)}") from None
    with redirect_stdout(sys.stderr):  # Ray prints that workers died, at the latest when it ends; --json owns stdout
        try:
            yield
        finally:
            ray.shutdown()
