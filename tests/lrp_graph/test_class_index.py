"""The class that each target stands for: ranks by logit, of equal logits the lower index first, in every format."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from onnxplain.export.formats.onnx_file import onnx_model, save_onnx
from onnxplain.export.formats.torchscript_file import torchscript_model
from onnxplain.lrp_graph import fuse
from tests.helpers.graph_checks import Hand, fused, images, sdpa
from tests.reference import variants

TIES: dict[str, Callable[[Tensor], Tensor]] = {
    "pairs": lambda logits: torch.cat([logits, logits], 1),
    "tens": lambda logits: torch.cat([logits] * 10, 1),
    "a whole row": lambda logits: logits[:, :1].expand(-1, 100),
    "zeros of either sign": lambda logits: torch.cat([logits.relu(), -(logits.relu())], 1),
}


class Tied(nn.Module):
    """A small model some of whose logits are equal."""

    def __init__(self, ties: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.ties = Hand(sdpa).float(), ties

    def forward(self, pixels: Tensor) -> Tensor:
        return self.ties(self.model(pixels))


def by_hand(targets: Tensor, logits: Tensor) -> list[list[int]]:
    """Ranks counted off one by one, without sorting."""
    classes = []
    for row, values in zip(targets.tolist(), logits.tolist(), strict=True):
        left = list(range(len(values)))
        order = []
        while left:
            order.append(max(left, key=lambda index: (values[index], -index)))
            left.remove(order[-1])
        classes.append([target if target >= 0 else order[min(-1 - target, len(order) - 1)] for target in row])
    return classes


@pytest.mark.parametrize("name", TIES)
def test_of_equal_logits_the_lower_index_leads(name: str, tmp_path: Path) -> None:
    pixels = images().float()
    graph = fuse(Tied(TIES[name]), pixels[:1], passes=[])
    path = tmp_path / "tied.onnx"
    save_onnx(onnx_model(graph, (32, 32)), "{}", path)
    session = onnxruntime.InferenceSession(path)
    script = torchscript_model(graph, (32, 32))
    classes = graph(pixels, torch.zeros(3, 1, dtype=torch.int64))["logits"].shape[1]
    targets = torch.tensor([[*range(-classes, 0), 0, classes - 1]]).expand(len(pixels), -1)
    feeds = {"pixels": pixels.numpy(), "target": targets.contiguous().numpy()}
    logits, from_onnx = map(torch.from_numpy, session.run(["logits", "class_index"], feeds))
    for found in (graph(pixels, targets), script(pixels, targets), {"logits": logits, "class_index": from_onnx}):
        assert found["class_index"].dtype == torch.int64
        assert found["class_index"].tolist() == by_hand(targets, found["logits"])


def test_ranks_beyond_the_last_are_the_last() -> None:
    model, graph = fused("plain")
    pixels = variants.pixels(model, 2)
    targets = torch.tensor([[-5, -6, -100]]).expand(2, -1)
    found = graph.compute(pixels, targets, ["logits", "class_index"])
    assert found["class_index"].tolist() == by_hand(targets, found["logits"])


def test_no_flag_is_needed_for_it(tmp_path: Path) -> None:
    model = variants.build("plain", torch.float32)
    graph = fuse(model, variants.pixels(model, 1), ["gradient"])
    path = tmp_path / "plain.onnx"
    save_onnx(onnx_model(graph, (32, 32)), "{}", path)
    session = onnxruntime.InferenceSession(path)
    assert [output.name for output in session.get_outputs()] == list(graph.names)
    assert graph.names[:2] == ("logits", "class_index")
    flags = {item.name: np.array(False) for item in session.get_overridable_initializers()}
    feeds = {"pixels": variants.pixels(model, 1).numpy(), "target": np.array([[-1, 3]])}
    logits, classes = session.run(["logits", "class_index"], {**feeds, **flags})
    assert classes.tolist() == [[logits.argmax(), 3]]
