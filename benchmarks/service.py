"""The service under load: `onnxplain serve`, asked by many clients of this machine at a time, for a limited time.

    python -m benchmarks.service [--model vit_base_patch16_224] [--seconds 60] [--document docs/performance.md]

16 clients ask for different methods and images of different sizes, as JSON with the map. Each answer is compared with
what an Explainer in this process says of the same image. The bare loop runs the same graph in onnxruntime for the same
methods, with tensors that are ready, before the service is started; all cores are its own then, while clients and
service share them. Then three times as many clients as the queue has places ask at once: what is refused is counted,
and whether the service answers rightly afterwards.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from onnxplain.contract.outputs import ALWAYS
from onnxplain.runtime import Explainer, preprocess
from onnxplain.runtime.batch_size import images_per_run
from onnxplain.runtime.methods.choice import call_method

from .cost import write_files
from .folder import PHOTOGRAPHS
from .processes import machine, memory
from .refusing import check_models
from .results import Case, Section, around, number, write_between
from .ways import CPU, WAYS

BEGIN = "<!-- written by benchmarks/service.py: begin -->"
CLIENTS = 16
SIZES = ((160, 120, "PNG"), (500, 375, "JPEG"), (1600, 1200, "JPEG"))
METHODS = ("transformer_attribution", "rollout", "generic_attention")
QUEUE = 32
OVERLOADING = 3 * QUEUE
SETTLED = 10
"""Seconds of load after which memory should grow no more."""
CLOSE = 1e-3
"""By how much a map may be off, as a share of its maximum: the size of a batch changes how products round."""


@dataclass(frozen=True)
class Question:
    """An image, a method, and what the answer has to be."""

    image: bytes
    method: str
    target: int
    score: float
    heatmap: NDArray[np.float32]

    def is_answered_by(self, document: dict[str, Any]) -> bool:
        """Whether the class is the same, and score and map are close."""
        [found] = document["explanations"]
        values = np.frombuffer(base64.b64decode(found["map"]["b64"]), "<f4").reshape(found["map"]["shape"])
        off = np.abs(values - self.heatmap).max() / np.abs(self.heatmap).max()
        same = found["target"] == self.target and found["method"] == self.method
        return bool(same and off < CLOSE and abs(found["score"] - self.score) < CLOSE * max(1, abs(self.score)))


@dataclass
class Tally:
    """What clients saw.

    Attributes:
        seconds: Of each right answer.
        duration: Until the last answer, in seconds.
        statuses: How often each came.
        wrong: Answers that were not what the Explainer says.
    """

    seconds: list[float] = field(default_factory=list)
    duration: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0


def questions(explainer: Explainer) -> list[Question]:
    """Photographs in all sizes, by all methods."""
    import skimage.data

    listed = []
    for name, (width, height, format), method in product(PHOTOGRAPHS, SIZES, METHODS):
        file = io.BytesIO()
        Image.fromarray(getattr(skimage.data, name)()).resize((width, height)).save(file, format)
        said = explainer.explain(file.getvalue(), method=method)
        listed.append(Question(file.getvalue(), method, said.target, said.score, said.input_heatmap))
    return listed


def bare(explainer: Explainer, asked: Sequence[Question], seconds: float) -> float:
    """Images per second of the graph alone, method by method, in batches as the Explainer makes them."""
    metadata, session = explainer.metadata, explainer.artifact._session  # type: ignore[attr-defined]
    runs = []
    for method in METHODS:
        outputs = metadata.with_pool(call_method(method, {}, metadata).outputs)
        size = images_per_run(explainer.artifact, outputs, 1)
        flags = {item.flag: np.array(item.output in outputs) for item in metadata.outputs}
        images = [question.image for question in asked if question.method == method]
        pixels = [preprocess(Image.open(io.BytesIO(image)), metadata.preprocessing)[0] for image in images]
        for start in range(0, len(pixels), size):
            part = np.stack(pixels[start : start + size])
            runs.append(([*ALWAYS, *outputs], {"pixels": part, "target": np.full((len(part), 1), -1), **flags}))
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for names, feeds in runs:
            session.run(names, feeds)
            count += len(feeds["pixels"])
    return count / (time.perf_counter() - start)


@contextmanager
def service(artifact: Path, replicas: int) -> Iterator[tuple[int, int]]:
    """The command: its process and its port; afterwards it has to end with status 0."""
    command = [sys.executable, "-u", "-m", "onnxplain.cli", "serve", str(artifact), "--port", "0"]
    command += ["--max-queue", str(QUEUE), "--replicas", str(replicas)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = next(filter(None, (re.match(r"listening on .*:(\d+),", line) for line in process.stdout)))
            yield process.pid, int(found[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, "the service did not end well"
        finally:
            process.kill()


def load(port: int, asked: Sequence[Question], clients: int, seconds: float) -> Tally:
    """So many clients, each with a connection of its own, ask for so long."""
    began = time.monotonic()
    end = began + seconds

    def client(number: int) -> Tally:
        tally, random = Tally(), np.random.default_rng(number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.monotonic() < end:
            question = asked[random.integers(len(asked))]
            start = time.perf_counter()
            connection.request("POST", f"/explain?map=input&method={question.method}", question.image)
            answer = connection.getresponse()
            content = answer.read()
            took = time.perf_counter() - start
            tally.statuses[answer.status] += 1
            if answer.status == 200:
                tally.seconds.append(took)
                tally.wrong += not question.is_answered_by(json.loads(content))
        connection.close()
        return tally

    with ThreadPoolExecutor(clients) as threads:
        tallies = list(threads.map(client, range(clients)))  # raises if a client got no answer
    return Tally(
        [second for each in tallies for second in each.seconds],
        time.monotonic() - began,
        sum((each.statuses for each in tallies), Counter()),
        sum(each.wrong for each in tallies),
    )


@contextmanager
def watched(process: int) -> Iterator[list[tuple[float, float]]]:
    """(seconds, megabytes), once a second while the block runs."""
    samples: list[tuple[float, float]] = []
    done, start = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(1):
            samples.append((time.monotonic() - start, sum(memory(process).values()) * 1.024e-3))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def main(
    model: Annotated[str, typer.Option(help="a model of timm")] = "vit_base_patch16_224",
    seconds: Annotated[float, typer.Option(help="of the load")] = 60,
    replicas: Annotated[int, typer.Option(help="of the service")] = 1,
    document: Annotated[Path | None, typer.Option(help="Markdown with a place for the table")] = None,
) -> None:
    """Measure, and print the table."""
    check_models([model])
    if document is not None:
        around(document, BEGIN)
    console, here = Console(), machine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_files(Case(here, model, 224, CPU, 1, 1, 1), ["onnx"], folder)
        artifact = folder / str(WAYS["onnx"].file)
        explainer = Explainer(artifact, CPU, packed=True)  # as the service opens it
        asked = questions(explainer)
        best = bare(explainer, asked, seconds / 4)
        del explainer
        with service(artifact, replicas) as (process, port):
            load(port, asked, 1, 3)
            with watched(process) as samples:
                tally = load(port, asked, CLIENTS, seconds)
            over = load(port, asked, OVERLOADING, seconds / 6)
            after = load(port, asked, 1, seconds / 6)
    rows = rows_of(best, tally, samples, over, after, seconds)
    section = Section(f"{model}, {CLIENTS} clients, {seconds:g} seconds, {replicas} replica(s)", ("", ""), rows)
    section.show(console)
    if document is not None:
        write_between(document, BEGIN, f"Measured on: {here}.\n\n{section.markdown()}")


def rows_of(
    best: float, tally: Tally, samples: list[tuple[float, float]], over: Tally, after: Tally, seconds: float
) -> list[tuple[str, str]]:
    """What the table says."""
    rate = len(tally.seconds) / tally.duration
    settled = [megabytes for second, megabytes in samples if second >= min(SETTLED, seconds / 2)]
    third = max(1, len(settled) // 3)
    first, last = float(np.mean(settled[:third])), float(np.mean(settled[-third:]))

    def statuses(found: Tally) -> str:
        return ", ".join(f"{count} x {status}" for status, count in sorted(found.statuses.items()))

    return [
        ("bare onnxruntime, images per second", number(best)),
        ("service, images per second", number(rate)),
        ("of the bare loop's", number(rate / best)),
        ("median, seconds", number(float(np.median(tally.seconds)))),
        ("99th percentile, seconds", number(float(np.quantile(tally.seconds, 0.99)))),
        ("answers", statuses(tally)),
        ("wrong ones", str(tally.wrong + over.wrong + after.wrong)),
        ("memory of all processes, in the first and the last third, MB", f"{first:.0f}, {last:.0f}"),
        (f"answers to {OVERLOADING} clients, of a queue of {QUEUE}", statuses(over)),
        ("answers to one client after that", statuses(after)),
        ("its median, seconds", number(float(np.median(after.seconds)))),
    ]


if __name__ == "__main__":
    typer.run(main)
