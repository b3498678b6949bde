"""An explanation whose map is known at every pixel: it falls evenly from the uppermost row to the lowest."""

import numpy as np
from PIL import Image

from onnxplain.runtime import Explanation, Placement


def ramp(high, low, size=(512, 60), colour=(128, 128, 128), **changes):
    """Of an image of one colour, of that (height, width), all of which the model saw as it is."""
    heatmap = np.repeat(np.linspace(high, low, size[0], dtype=np.float32)[:, None], size[1], axis=1)
    return Explanation(
        heatmap, heatmap, 3, "cat", 1.5, 0.257, [], "vit", "rollout", {}, Image.new("RGB", size[::-1], colour),
        Placement(size, size, (0, 0), size), **changes,
    )  # fmt: skip
