"""Processes of a batch are killed at random moments; faults.py counts what comes of it."""

import pytest

from tests.batch.faults import run


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["alone", "worker", "driver"])
def test_after_kills_every_image_has_one_row(tmp_path, victim):
    assert run(tmp_path, victim, kills=2, count=600, bad=0.01, seed=1)["kills"] == 2
