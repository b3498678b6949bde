"""A real picture as models see it, by our preprocessing, and what it means that two models agree on it."""

import skimage.data
import torch
from PIL import Image

from onnxplain.runtime.images.preprocessing import preprocess

TINY = {"depth": 2, "embed_dim": 48, "num_heads": 3}
"""Options that make any Vision Transformer of timm small enough for tests."""


def astronaut():
    """512 x 512, RGB."""
    return Image.fromarray(skimage.data.astronaut())


def outputs(model, pixels):
    with torch.no_grad():
        return model(pixels)


def ours(backbone):
    """What the backbone says of the picture, after the preprocessing that the artifact will describe."""
    pixels = torch.from_numpy(preprocess(astronaut(), backbone.preprocessing)[0]).unsqueeze(0)
    return outputs(backbone.model, pixels)


def assert_agree(given, expected):
    """To 1e-4 of the greatest value; and the values do differ."""
    assert given.shape == expected.shape and expected.std() > 0
    assert (given - expected).abs().max() <= 1e-4 * expected.abs().max()


def randomise(model, seed=0):
    """Give every parameter a value that no initialisation gives, of a size that keeps activations moderate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * (0.1 if parameter.dim() < 2 else parameter[0].numel() ** -0.5))
            if parameter.dim() == 1:
                parameter.add_(0.5)
    return model.eval()
