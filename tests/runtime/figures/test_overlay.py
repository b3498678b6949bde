"""The map drawn over the picture: every pixel against arithmetic written out pixel by pixel."""

import cmap
import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explanation, Placement, Style
from onnxplain.runtime.figures.figure import figure_of
from onnxplain.runtime.figures.formats import FORMATS, encoded
from onnxplain.runtime.figures.scale import shared_scales

RANDOM = np.random.default_rng(0)
SIZE = (40, 60)  # of the picture; the model saw its middle, 40 x 40, as 20 x 20
PICTURE = Image.fromarray(RANDOM.integers(0, 256, (*SIZE, 3), np.uint8))
PLACEMENT = Placement(SIZE, (20, 30), (0, 5), (20, 20))


def explanation(heatmap, **changes):
    return Explanation(heatmap, heatmap, 3, "cat", 1.5, 0.25, [], "m", "rollout", {}, PICTURE, PLACEMENT, **changes)


def random_map(low=0.0, high=1.0, seed=1):
    return np.random.default_rng(seed).uniform(low, high, (20, 20)).astype(np.float32)


def slow_overlay(item, low, high, colormap, opacity):
    """What is drawn, in floating point, pixel by pixel."""
    colours = cmap.Colormap(colormap)
    drawn = np.zeros((*SIZE, 3))
    (top, bottom), (left, right) = ((part.start, part.stop) for part in item.placement.seen)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            red, green, blue = (float(value) for value in PICTURE.getpixel((x, y)))
            grey = 0.299 * red + 0.587 * green + 0.114 * blue
            if not (top <= y < bottom and left <= x < right):
                drawn[y, x] = (grey + 128) / 2
                continue
            share = (float(item.heatmap[y, x]) - low) / (high - low)
            distance = abs(2 * share - 1) if item.signed else share
            t = min(1, distance / 0.6)
            alpha = opacity * (3 * t**2 - 2 * t**3)
            for channel, value in enumerate((red, green, blue)):
                bare = 0.3 * value + 0.7 * grey
                drawn[y, x, channel] = bare * (1 - alpha) + 255 * colours(share)[channel] * alpha
    return drawn


@pytest.mark.parametrize("opacity", [0.85, 0.3, 1.0, 0.0])
@pytest.mark.parametrize("colormap", [None, "viridis", "magma_r"])
def test_a_map_without_sign(colormap, opacity):
    item = explanation(random_map(0.2, 3))
    low, high = item.input_heatmap.min(), item.input_heatmap.max()
    expected = slow_overlay(item, low, high, colormap or "cmasher:ember", opacity)
    # 256 levels: up to half a step of the scale, in which a colour changes by up to 4 and its opacity by up to 1
    assert np.abs(np.asarray(item.overlay(colormap, opacity), float) - expected).max() <= 5


@pytest.mark.parametrize("colormap", [None, "vik"])
def test_a_signed_map_has_zero_in_the_middle(colormap):
    item = explanation(random_map(-1, 3), signed=True)
    high = float(np.abs(item.input_heatmap).max())
    expected = slow_overlay(item, -high, high, colormap or "matplotlib:coolwarm", 0.85)
    assert np.abs(np.asarray(item.overlay(colormap), float) - expected).max() <= 5
    mirrored = explanation(-item.input_heatmap, signed=True)
    reverse = f"{colormap or 'matplotlib:coolwarm'}_r"
    assert np.abs(np.asarray(mirrored.overlay(reverse), int) - np.asarray(item.overlay(colormap), int)).max() <= 4


def test_what_is_zero_is_bare():
    """Zero of a signed map, and the minimum of any other: the picture as it is without any colours."""
    for signed in (True, False):
        heatmap = np.zeros((20, 20), np.float32)
        heatmap[:, :6] = 1
        item = explanation(heatmap, signed=signed)
        where = item.heatmap == 0
        assert where.any() and np.array_equal(
            np.asarray(item.overlay())[where], np.asarray(item.overlay(opacity=0))[where]
        )


def test_the_contour_goes_around_what_is_above_it():
    """Of a map whose values are the distances from a point, the line is a circle of known radius and width."""
    size = (400, 400)
    rows, columns = np.mgrid[:100, :100] + 0.5
    heatmap = (80 - np.hypot(rows - 50, columns - 50)).astype(np.float32)
    item = Explanation(
        heatmap, heatmap, 0, "x", 0.0, 0.5, [], "m", "rollout", {}, Image.new("RGB", size, (90, 90, 90)),
        Placement(size, (100, 100), (0, 0), (100, 100)),
    )  # fmt: skip
    with_line, without = (np.asarray(item.overlay(contour=contour), int) for contour in (0.5, None))
    low, high = heatmap.min(), heatmap.max()
    radius = 4 * (80 - (low + 0.5 * (high - low)))
    distance = np.abs(np.hypot(*(np.mgrid[:400, :400] + 0.5 - 200)) - radius)
    changed = (with_line != without).any(-1)
    assert (with_line[distance < 0.2] > 235).all()  # white in the middle
    assert not changed[distance > 3].any()  # the halo is 3 pixels wide, and a pixel's edge
    assert with_line[(distance > 1.4) & (distance < 1.8)].mean() < without[(distance > 1.4) & (distance < 1.8)].mean()
    flat = explanation(random_map() * 0)
    assert np.array_equal(flat.overlay(contour=0.5), flat.overlay())


def test_a_contour_around_what_counts_against_the_class():
    heatmap = np.linspace(-1, 1, 20, dtype=np.float32)[None].repeat(20, 0)
    item = explanation(heatmap, signed=True)
    changed = (np.asarray(item.overlay(contour=0.5)) != np.asarray(item.overlay())).any((0, 2))
    assert changed[10:30].any() and changed[30:50].any() and not changed[28:32].any()


def test_shared_scales():
    small, large, signed = (
        explanation(random_map()),
        explanation(random_map(1, 5)),
        explanation(random_map(-9, 1), signed=True),
    )
    flat = explanation(random_map() * 0)
    scales = shared_scales([small, large, signed, flat])
    high = float(np.abs(signed.input_heatmap).max())
    assert [scale.high for scale in scales[:3]] == [high] * 3 and scales[3] is None
    assert scales[0].low == scales[1].low == small.input_heatmap.min() and scales[2].low == -high
    style = Style("bare")
    bright, faint = (np.asarray(figure_of(small, style, scale), int) for scale in (None, scales[0]))
    bare = np.asarray(small.overlay(opacity=0), int)
    assert np.abs(bright - bare).max() > 5 * np.abs(faint - bare).max()


@pytest.mark.parametrize("layout", ["side", "overlay", "map", "bare"])
@pytest.mark.parametrize("format", FORMATS)
def test_figures_of_the_same_input_are_the_same_bytes(format, layout):
    style = Style(layout, contour=0.4)
    first, second = (encoded(figure_of(explanation(random_map()), style), format, {"Class": "猫"}) for _ in range(2))
    assert first == second and len(first) > 1000
    assert first != encoded(figure_of(explanation(random_map(seed=2)), style), format, {"Class": "猫"})
