"""What pycocotools makes of some segments, for the tests of ours: writes pycocotools.json beside this file.

pip install pycocotools==2.0.11 && python tests/evaluation/golden/pycocotools_masks.py
"""

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

SIZE = 40, 50
POLYGONS = [
    [10.0, 5.0, 40.5, 8.25, 30.2, 33.7, 12.9, 30.1],  # four corners
    [25.0, 2.0, 31.0, 36.0, 5.0, 14.0, 45.0, 14.0, 19.0, 36.0],  # a star that crosses itself
    [-8.0, -5.0, 20.0, -5.0, 20.0, 60.0, -8.0, 60.0],  # beyond the image
]


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    masks = [rng.random(SIZE) < share for share in (0.5, 0.02, 0.98)]
    masks += [np.zeros(SIZE, bool), np.ones(SIZE, bool)]
    masks += [np.add.outer((np.arange(40) - 20.0) ** 2, (np.arange(50) - 20.0) ** 2) < 200]
    encoded = [coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() for mask in masks]
    drawn = [coco.decode(coco.frPyObjects([points], *SIZE))[..., 0] for points in POLYGONS]
    rows = [["".join(map(str, map(int, row))) for row in mask] for mask in (*masks, *drawn)]
    content = {"size": SIZE, "counts": encoded, "polygons": POLYGONS, "masks": rows}
    Path(__file__).with_name("pycocotools.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
