"""How wide tokens and hidden layers are, read off the graph of models that say it themselves."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from onnxplain.lrp_graph import fuse


@pytest.mark.parametrize(("changes", "hidden"), [({}, 128), ({"mlp_ratio": 5}, 160), ({"mlp_ratio": 1}, 96)])
def test_widths_of_timm(changes: dict[str, Any], hidden: int) -> None:
    """The widest is a block's hidden layer, or else what its queries, keys and values are parts of."""
    model = VisionTransformer(32, 8, num_classes=5, embed_dim=32, depth=2, num_heads=4, **changes).eval()
    graph = fuse(model, torch.zeros(1, 3, 32, 32), [])
    assert (graph.token_width, graph.hidden_width) == (32, hidden)


class TokensFirst(nn.Module):
    """Values [tokens, batch, width], as nn.TransformerEncoderLayer has them by default."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 32, 8, 8), nn.Linear(32, 5)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, 128, norm_first=True) for _ in range(2))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).permute(2, 0, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(0))


def test_widths_where_the_tokens_come_first() -> None:
    graph = fuse(TokensFirst().eval(), torch.zeros(1, 3, 32, 32), [])
    assert (graph.token_width, graph.hidden_width) == (32, 128)
