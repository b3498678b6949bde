"""What an explainer asks of its graph, and whether two explanations are one."""

import numpy as np
import pytest


def assert_same(given, expected):
    for name in ("heatmap", "tokens"):
        np.testing.assert_allclose(getattr(given, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
    assert (given.target, given.label, given.method) == (expected.target, expected.label, expected.method)
    assert given.score == pytest.approx(expected.score, rel=1e-5)


class Spy:
    """Stands before a session and notes what each run is asked for."""

    def __init__(self, session):
        self.session, self.runs = session, []

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, outputs, feeds):
        values = self.session.run(outputs, feeds)
        self.runs.append((outputs, feeds, values))
        return values
