"""`Explanation.to_dict`: what each field says; the box of the highest values against a slow version."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explainer, Explanation, Placement, placed_levels
from onnxplain.runtime import summary as summaries
from onnxplain.runtime.images import geometry
from onnxplain.runtime.placed_levels import PlacedLevels
from tests.helpers.command_line import artifact, random_image  # noqa: F401
from tests.helpers.tiny_artifact import GRID, LABELS

CROPPED = Placement((50, 90), (32, 58), (4, 10), (24, 36))  # scaled down, all edges cut off
PADDED = Placement((20, 30), (20, 30), (-4, -5), (28, 40))
WHOLE = Placement((24, 36), (24, 36), (0, 0), (24, 36))


def _explanation(heatmap, placement=None, grid=(6, 9), **changes):
    heatmap = np.asarray(heatmap, np.float32)
    placement = placement or Placement(heatmap.shape, heatmap.shape, (0, 0), heatmap.shape)
    image = Image.new("RGB", placement.original[::-1])
    tokens = np.zeros(grid, np.float32)
    return Explanation(heatmap, tokens, 0, "x", 0.0, 0.5, [], "m", "rollout", {}, image, placement, **changes)


def upper_fifth(item):
    return PlacedLevels(item).upper_fifth()


def _slow_box(values):
    """Of a map over the image in which nothing is below 0: from its definition, pixel by pixel, in exact arithmetic."""
    pixels = sorted(((float(value), y, x) for (y, x), value in np.ndenumerate(values)), reverse=True)
    total = math.fsum(value for value, _, _ in pixels)
    for count in range(1, len(pixels) + 1):
        if 5 * math.fsum(value for value, _, _ in pixels[:count]) >= total:
            break
    inside = [(y, x) for value, y, x in pixels if value >= pixels[count - 1][0]]
    ys, xs = zip(*inside, strict=True)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def _slow_peak(item):
    """(y, x) of the middle one of the highest pixels' rows, and in it of its columns."""
    levels = item.placement.place(item.input_heatmap, -np.inf)
    ys, xs = np.nonzero(levels == levels.max())
    y = ys[len(ys) // 2]
    return y, xs[ys == y][(ys == y).sum() // 2]


@pytest.mark.parametrize("placement", [WHOLE, CROPPED, PADDED])
@pytest.mark.parametrize("shift", [0.0, -0.6, 3.0])
@pytest.mark.parametrize("kind", [{}, {"signed": True}, {"relative": True}])
def test_the_box_of_the_upper_fifth(placement, shift, kind):
    """Maps below zero, above it and on both sides; only what the model saw of the picture counts."""
    for seed in range(3):
        rough = np.random.default_rng(seed).random((5, 7)) ** 3 + shift
        heatmap = geometry.resize(rough.astype(np.float32), placement.crop)
        shown = heatmap[placement.shown]
        low = shown.min() if "relative" in kind else max(shown.min(), 0)
        low = 0 if "signed" in kind else low
        values = np.zeros(placement.original)
        values[placement.seen] = np.maximum(placement.place(heatmap)[placement.seen] - np.float64(low), 0)
        assert upper_fifth(_explanation(heatmap, placement, **kind)) == _slow_box(values)


def test_equal_values_are_in_the_box_together_and_a_fifth_is_enough():
    heatmap = np.zeros((8, 10))
    heatmap[2, 3] = 4
    heatmap[4:8, 2:6] = 1  # 16 of 20: the highest value alone holds a fifth
    assert upper_fifth(_explanation(heatmap)) == [3, 2, 4, 3]
    heatmap[0, 0] = 1  # 17 of 21: now all others are needed, as none is higher than another
    assert upper_fifth(_explanation(heatmap)) == [0, 0, 6, 8]
    heatmap[2, 3] = np.nextafter(np.float32(1), np.float32(2))  # tells apart what differs in the last bit
    heatmap[:, 0] = 0
    heatmap[4:8, 2:6] = 0
    heatmap[7, 9] = 1
    assert upper_fifth(_explanation(heatmap)) == [3, 2, 4, 3]


def test_values_of_any_size():
    rng = np.random.default_rng(0)
    heatmap = (10 ** rng.uniform(-30, 30, (9, 9))).astype(np.float32)
    assert upper_fifth(_explanation(heatmap)) == _slow_box(heatmap.astype(np.float64) - heatmap.min())
    same = geometry.resize(rng.random((3, 3)).astype(np.float32), (24, 36))
    assert upper_fifth(_explanation(same)) == upper_fifth(_explanation(same * np.float32(2.0**100)))


def test_of_pixels_the_smoothed_map_is_boxed():
    """A chequerboard of high values, which smoothing levels, against a patch of middling ones."""
    heatmap = np.where(np.indices((48, 72)).sum(0) % 2 == 0, 5.0, -5.0)
    heatmap[16:24, 24:40] = 3
    box = upper_fifth(_explanation(heatmap, pixel_level=True))
    assert 20 <= box[0] < box[2] <= 44 and 12 <= box[1] < box[3] <= 28


def test_nothing_drawn_has_neither_box_nor_maximum():
    for heatmap, kind in (
        (np.full((4, 6), 2), {}),
        (np.zeros((4, 6)), {"signed": True}),
        (-np.arange(24).reshape(4, 6), {}),
        (-1 - np.arange(24).reshape(4, 6), {"signed": True}),
    ):
        item = _explanation(heatmap, **kind).to_dict()
        assert item["maximum"] is None and item["upper_fifth"] is None


@pytest.mark.parametrize("kept", [0, 10**6])
def test_a_photograph_is_gone_through_in_bands(monkeypatch, kept):
    placement = Placement((90, 70), (30, 30), (0, 0), (30, 30))
    rough = np.random.default_rng(3).random((5, 5), np.float32)
    rough[0, :2] = 1.5  # equal values along the edge
    item = _explanation(geometry.resize(rough, (30, 30)), placement)
    whole = upper_fifth(item)
    peak = item.peak()
    monkeypatch.setattr(geometry, "BAND", 200)
    monkeypatch.setattr(placed_levels, "KEPT", kept)
    assert item.peak() == peak == _slow_peak(item)
    assert upper_fifth(item) == whole == _slow_box(item.heatmap - item.input_heatmap.min().astype(np.float64))


def test_what_each_field_says(artifact):  # noqa: F811
    explainer = Explainer(artifact, "cpu", top_k=3)
    picture = random_image(1, 90, 50)
    item = explainer.explain(picture, "Dog", "rollout", discard_ratio=np.float32(0.5), start_layer=np.int64(1))
    told = item.to_dict()
    ys, xs = np.nonzero(item.heatmap)  # the map is positive where the model saw something
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told == {
        "model": "tiny",
        "precision": "float32",
        "width": 90,
        "height": 50,
        "seen": [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1],
        "patch_rows": GRID[0],
        "patch_columns": GRID[1],
        "predictions": [
            {"index": index, "label": LABELS[index], "probability": share} for index, _, share in item.predictions
        ],
        "method": "rollout",
        "parameters": {"head_fusion": "mean", "discard_ratio": 0.5, "start_layer": 1},
        "target": 4,
        "label": "Dog",
        "score": item.score,
        "probability": item.probability,
        "maximum": list(item.peak()[::-1]),
        "upper_fifth": upper_fifth(item),
        "resolution": None,
    }
    assert len(told["predictions"]) == 3 and 0 < told["seen"][0] < told["seen"][2] < 90  # the sides are cut off
    x, y = told["maximum"]
    highest = item.placement.place(item.input_heatmap, -np.inf)
    assert highest[y, x] == highest.max()
    logits = explainer.tensors(picture, passes=[])["logits"][0].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert told["score"] == logits[4] and told["probability"] == pytest.approx(shares[4], rel=1e-6)
    assert replace(item, resolution=0.25, precision="float64").to_dict()["resolution"] == 0.25
    assert summaries.about_image(item).keys().isdisjoint(summaries.about_map(item))
