"""The command serve as a whole, with Ray: started once, asked, hurt, stopped."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from onnxplain.runtime import Explainer
from onnxplain.runtime.summary import about_map
from tests.helpers.command_line import run
from tests.helpers.hostile import requests, send
from tests.helpers.processes import descendants
from tests.helpers.service import DEMO, ROOT, SCENES

pytest.importorskip("ray", reason="the service needs onnxplain[ray]")
IMAGES = [(SCENES / f"scene-{seed}.png").read_bytes() for seed in range(4)]
OTHER = "un petit modèle"  # Ray's own names must be ASCII


@pytest.fixture(scope="module")
def served(artifact, tmp_path_factory):
    """The command with two models: the process, its port and its log."""
    folder = tmp_path_factory.mktemp("serve")
    log, other = folder / "log", folder / f"{OTHER}.onnx"
    shutil.copy(artifact, other)
    command = [sys.executable, "-u", "cli.py", "serve", str(DEMO), str(other), "--port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        line = next(line for line in process.stdout if line.startswith("listening"))
        yield process, int(re.search(r":(\d+),", line)[1]), log
    finally:
        process.kill()
        process.wait()


def ask(port, path="/explain?model=demo", body=IMAGES[0]):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST" if body else "GET", path, body)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.headers["content-type"].endswith("json") else content
    finally:
        connection.close()


def replica(service, model):
    """The process of the only replica of a model; None if there is none."""
    title = f"ray::ServeReplica:{model}:"
    return next((number for number, every in descendants(service.pid) if every.startswith(title)), None)


def test_questions_that_come_together_are_answered_as_if_alone(served):
    _, port, _ = served
    explainer = Explainer(DEMO, "cpu", threads=1, packed=True)
    asked = [(image, method) for _ in range(6) for image in IMAGES for method in ("legrad", "rollout")]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda each: ask(port, f"/explain?model=demo&method={each[1]}", each[0]), asked))
    for (image, method), (status, document) in zip(asked, found, strict=True):
        assert status == 200, document
        [said], expected = document["explanations"], about_map(explainer.explain(image, method=method))
        for name in ("score", "probability"):
            assert said.pop(name) == pytest.approx(expected.pop(name), rel=1e-5)
        said.pop("key")
        assert said == expected
    sums = re.findall(rb'onnxplain_images_together_(sum|count){model="demo"} (\S+)', ask(port, "/metrics", None)[1])
    total = {name: float(value) for name, value in sums}
    assert total[b"sum"] > 1.5 * total[b"count"]


def test_both_models_answer(served, artifact):
    _, port, _ = served
    assert ask(port, "/v1/models", None) == (200, {"models": ["demo", OTHER]})
    for name, path in (("demo", DEMO), (OTHER, artifact)):
        status, document = ask(port, f"/explain?model={quote(name)}&map=input&method=rollout")
        assert (status, document["artifact"]) == (200, f"{name}.onnx")
        expected = Explainer(path, "cpu", threads=1).explain(IMAGES[0], method="rollout")
        assert document["explanations"][0]["map"]["shape"] == list(expected.input_heatmap.shape)


def test_a_bad_image_concerns_itself_only(served):
    _, port, _ = served
    with ThreadPoolExecutor(8) as threads:
        bodies = [IMAGES[0], b"no image", IMAGES[0][:300], IMAGES[1]] * 6
        found = list(threads.map(lambda body: ask(port, body=body)[0], bodies))
    assert found == [200, 422, 422, 200] * 6


@pytest.mark.slow
def test_hostile_requests_cause_no_error_of_the_service(served):
    _, port, log = served
    found = Counter(
        status for kind, parts in requests(seed=1) if kind != "slow" for status in send(port, kind, parts, 0)
    )
    assert all(status < 500 for status in found) and found[422] > 100, found
    assert ask(port)[0] == 200 and "Traceback" not in log.read_text()


def test_a_replica_that_dies_is_replaced(served):
    service, port, log = served
    process = replica(service, "0_demo")
    assert process is not None and replica(service, "1_un_petit_mod_le") is not None
    os.kill(process, signal.SIGKILL)
    statuses, end = [], time.monotonic() + 60
    while statuses[-3:] != [200] * 3 and time.monotonic() < end:
        statuses.append(ask(port)[0])
    assert set(statuses) <= {200, 503} and statuses[-3:] == [200] * 3, statuses
    assert replica(service, "0_demo") not in (None, process)
    assert "Traceback" not in log.read_text()


def test_a_stop_ends_all_of_it(served):
    process, port, log = served
    assert ask(port)[0] == 200
    replicas = replica(process, "0_demo"), replica(process, "1_un_petit_mod_le")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not any(Path(f"/proc/{number}").exists() for number in replicas)
    assert log.read_text() == ""


def test_mistakes_are_told_before_anything_starts(artifact, folder):
    Path("model.pt").touch()
    for arguments, message in [
        (["nowhere.onnx"], "there is no artifact nowhere.onnx"),
        (["cat.png"], "cat.png"),
        (["model.pt"], "model.pt is not served; export it as a .onnx file"),
        ([artifact, artifact], "two artifacts would be the model tiny"),
        ([artifact, "--host", "300.1.1.1"], "cannot listen on 300.1.1.1, --port 8000"),
    ]:
        done = run("serve", *arguments)
        assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(artifact, monkeypatch):
    monkeypatch.delitem(sys.modules, "onnxplain.serving.http.on_ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run("serve", artifact)
    assert done.exit_code == 2
    assert done.stderr == "error: serve needs ray: pip install 'onnxplain[ray]'\n"
