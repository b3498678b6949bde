"""The gate and large models: what it holds at once."""

import math
import weakref

import onnx
import pytest
import torch

from onnxplain.contract.outputs import ALWAYS
from onnxplain.export.verify import portions
from onnxplain.export.verify.autograd_reference import OF_FORWARD
from onnxplain.export.verify.onnx_ops import OPS
from onnxplain.export.verify.op_by_op import OnnxOpByOp
from onnxplain.runtime import Explainer

# `attention` reads what `attention_mean` is made of, and nobody asks for it
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[batch, 3] pixels, int64[batch, targets] target) =>
      (float[batch, 3] logits, float[batch, 3] attention_mean, float[batch, 3] attention)
{
    raw = Exp(pixels)
    attention_mean = Sin(raw)
    logits = Cos(pixels)
    attention = Neg(raw)
}
"""


def test_what_only_other_outputs_read_is_let_go_of(tmp_path, monkeypatch):
    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "small.onnx")
    made, alive = [], []
    exp, cos = OPS["Exp"], OPS["Cos"]
    monkeypatch.setitem(OPS, "Exp", lambda x: made.append(weakref.ref(result := exp(x))) or result)
    monkeypatch.setitem(OPS, "Cos", lambda x: alive.append(made[-1]() is not None) or cos(x))
    pixels = torch.ones(1, 3, dtype=torch.float64)
    file = OnnxOpByOp(tmp_path / "small.onnx")
    for names, kept in ((["logits", "attention_mean"], False), (["logits", "attention_mean", "attention"], True)):
        given = file.run(pixels, torch.zeros(1, 1, dtype=torch.int64), names)
        assert given.keys() == set(names)
        assert alive.pop() is kept
        torch.testing.assert_close(given["attention_mean"], pixels.exp().sin())


@pytest.mark.parametrize(("outputs", "several"), [(0, True), (1, True), (1000, False)])
def test_outputs_of_large_models_are_compared_in_parts(outputs, several, artifact, monkeypatch):
    metadata = Explainer(artifact).metadata
    monkeypatch.setattr(portions, "MAX_RAW", 1)
    large = portions.too_large(metadata)
    sizes = {item.output: 4 * math.prod(metadata.shape(item)) for item in metadata.outputs if item not in large}
    room = outputs * max(sizes.values())
    monkeypatch.setattr(portions, "MAX_AT_ONCE", room)
    listed = portions.portions(metadata, (1, 2), {0: 2, 1: 1}, 0)
    for image in (0, 1):
        parts = [one.names for (one,) in listed if one.single.images == (image,)]
        assert sorted(name for names in parts for name in names) == sorted(["logits", *sizes])
        for names in parts:
            held = [sizes[name] for name in names if name not in ALWAYS]
            assert len(held) <= 1 or sum(held) <= room
            assert OF_FORWARD.issuperset(names) or OF_FORWARD.isdisjoint(names)  # the first need no backward pass
        assert (len(parts) > len(portions.GROUPS) + 1) is several
