"""The service as tests run it: with Explainers in its own process, and without Ray.

``python -m tests.helpers.service ARTIFACT… --limits JSON`` serves it on a free port of 127.0.0.1, which it prints.
"""

import argparse
import asyncio
import json
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from starlette.testclient import TestClient

from onnxplain.serving.http.answering import answer_all, open_explainer
from onnxplain.serving.http.application import build_application
from onnxplain.serving.http.limits import Limits
from onnxplain.serving.http.models import read_models
from onnxplain.serving.http.server import answer_requests, listen
from onnxplain.serving.http.service import Service

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "demo" / "scenes"
DEMO = ROOT / "demo" / "demo.onnx"
PNG = {"accept": "image/png"}


class InProcess:
    """An `Explains`, with an Explainer for each model, which answers one question at a time."""

    def __init__(self, models, explainers):
        self.models, self._explainers = models, explainers
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, model, question):
        work = asyncio.get_running_loop().run_in_executor(self._thread, answer_all, self._explainers[model], [question])
        [outcome] = await work
        return outcome


def in_process(artifacts, limits=None):
    """What explains."""
    limits = limits or Limits()
    models = read_models(artifacts)
    explainers = {name: open_explainer(model.artifact, 1, limits.pixels) for name, model in models.items()}
    return InProcess(models, explainers)


def make_service(artifacts, **limits):
    """The service, with other limits than the default ones."""
    return Service(in_process(artifacts, Limits(**limits)), Limits(**limits))


def client_of(service):
    """A client that raises what the application does not handle."""
    return TestClient(build_application(service), headers={"accept": "*/*"})


@contextmanager
def serving(*artifacts, **limits):
    """The service in a process of its own: yields the process, its port, and the file that it logs to."""
    command = [sys.executable, "-m", "tests.helpers.service", *map(str, artifacts), "--limits", json.dumps(limits)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            port = re.fullmatch(r"listening on (\d+)\n", process.stdout.readline())
            if port is None:
                raise RuntimeError(process.stderr.read())
            yield process, int(port[1])
        finally:
            process.kill()


def main():
    """Serve until a signal comes; the status is 3 if that cuts answers short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--limits", type=json.loads, default={})
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    service = make_service(given.artifacts, **given.limits)
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        print(f"listening on {taken.getsockname()[1]}", flush=True)
        sys.exit(0 if answer_requests(service, taken) else 3)


if __name__ == "__main__":
    main()
