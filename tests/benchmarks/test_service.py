"""The benchmark of the service, without Ray: it finds wrong answers, and counts those that are refused."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.processes import memory
from benchmarks.service import METHODS, SIZES, Question, load, questions
from onnxplain.runtime import Explainer
from tests.helpers.service import DEMO, SCENES, serving


@pytest.fixture(scope="module")
def question() -> Question:
    image = (SCENES / "scene-0.png").read_bytes()
    said = Explainer(DEMO, "cpu", threads=1).explain(image, method="rollout")
    return Question(image, "rollout", said.target, said.score, said.input_heatmap)


def test_every_answer_is_compared(question: Question) -> None:
    off = question.heatmap.copy()
    off[3, 4] += 0.01 * np.abs(off).max()
    wrong = [replace(question, heatmap=off), replace(question, target=0), replace(question, score=question.score + 0.1)]
    with serving(DEMO) as (_, port):
        right = load(port, [question], clients=2, seconds=0.5)
        assert (set(right.statuses), right.wrong) == ({200}, 0) and len(right.seconds) > 1
        for each in wrong:
            found = load(port, [each], clients=1, seconds=0.2)
            assert found.wrong == len(found.seconds) > 0


def test_what_is_refused_is_counted(question: Question) -> None:
    with serving(DEMO, queue=1) as (_, port):
        found = load(port, [question], clients=8, seconds=0.5)
    assert set(found.statuses) == {200, 429} and found.wrong == 0
    assert found.statuses[200] == len(found.seconds)


def test_questions_are_of_all_sizes_and_methods() -> None:
    listed = questions(Explainer(DEMO, "cpu", threads=1))
    assert len({(len(each.image), each.method) for each in listed}) == len(listed) == 4 * len(SIZES) * len(METHODS)


def test_memory_is_that_of_the_family() -> None:
    inner = "import sys; held = bytearray(b'x') * (100 << 20); print(flush=True); sys.stdin.read()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", outer], **pipes) as process:
        process.stdout.readline()
        held = memory(process.pid)
        process.stdin.close()
    assert len(held) == 2
    assert 1 << 10 < held.pop(process.pid) < 50 << 10 and 100 << 10 < held.popitem()[1] < 150 << 10
