"""What the layout is read from is not kept of all layers, which at 518 pixels takes gigabytes."""

import torch

from onnxplain.lrp_graph import fuse, layout
from onnxplain.lrp_graph.trace.rewrite import interpret_for
from tests.helpers.export_cases import build


def test_values_of_the_last_layer_are_kept_alone(monkeypatch):
    kept = []

    def spy(*args):
        kept.append(interpret_for(*args))
        return kept[-1]

    monkeypatch.setattr(layout, "interpret_for", spy)
    graph = fuse(build("registers"), torch.zeros(1, 3, 32, 32), [])
    (values,) = kept
    first, *_, last = graph._trace.layer_attention
    assert last in values and first not in values
    assert graph._trace.logits in values
