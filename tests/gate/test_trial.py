"""A sample of `python -m tests.gate`: a right file passes, and what is done to it is noticed."""

import numpy as np
import pytest

from tests.gate.__main__ import Mutable, judge_right
from tests.gate.subjects import ARCHITECTURES, WEIGHTS


def test_there_are_two_hundred_exports():
    assert len(ARCHITECTURES) == 40 and len(WEIGHTS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("case", [("SigLIP, classifier", "normal 0.02")])
def test_right_file(case):
    verdict, _ = judge_right(*case, seed=0)
    assert verdict == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8", "float16", "float64"])
def test_wrong_files(precision):
    subject, rng = Mutable("layer_scale", "fan in", seed=0, precision=precision), np.random.default_rng(0)
    verdicts = [subject.mutated(rng) for _ in range(5)]
    none = ("changes nothing", "cannot be written")
    effective = [verdict for _, verdict in verdicts if not verdict.startswith(none)]
    assert len(effective) >= 3 and set(effective) == {"caught"}, verdicts
