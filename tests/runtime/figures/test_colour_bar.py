"""The colour bar of a figure, and the map alone: which colour stands for which value."""

import cmap
import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explanation, Placement, Style
from onnxplain.runtime.figures.canvas import Raster, Text
from onnxplain.runtime.figures.figure import figure_of
from tests.helpers.ramp import ramp


def shown(item, **style):
    """The map, the colour bar, and the texts beside the bar."""
    figure = figure_of(item, Style(**style))
    panel, bar = [part for part in figure.items if isinstance(part, Raster)][-2:]
    assert panel.y == bar.y and panel.image.height == bar.image.height == 512  # of a ramp
    numbers = [part for part in figure.items if isinstance(part, Text) and part.x > bar.x]
    return panel, bar, numbers


def column(part):
    """The colours of its middle, from the top, [height, 3]."""
    return np.asarray(part.image, int)[:, part.image.width // 2]


@pytest.mark.parametrize("opacity", [0.85, 0.4])
@pytest.mark.parametrize("colormap", [None, "viridis"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("layout", ["side", "overlay", "map"])
def test_the_bar_has_the_colour_of_the_map_at_each_value(layout, signed, colormap, opacity):
    """Of a map that falls from row to row as the bar does, over an image as grey as what is behind the bar."""
    item = ramp(2, -2 if signed else 0.5, signed=signed)
    panel, bar, _ = shown(item, layout=layout, colormap=colormap, opacity=opacity)
    assert np.abs(column(panel) - column(bar)).max() <= 6  # two of 256 levels
    assert np.ptp(column(bar), axis=0).max() > 50


@pytest.mark.parametrize(
    ("signed", "colormap", "name"),
    [(False, None, "cmasher:ember"), (True, None, "matplotlib:coolwarm"), (False, "viridis", "viridis")],
)
def test_beside_the_map_alone_the_bar_is_the_colormap(signed, colormap, name):
    """Its highest value at the top, as opaque as can be whatever the style's opacity."""
    _, bar, _ = shown(ramp(2, -2 if signed else 0.5, signed=signed), layout="map", colormap=colormap, opacity=0.3)
    expected = 255 * np.asarray(cmap.Colormap(name)(np.linspace(1, 0, 512)))[:, :3]
    assert np.abs(column(bar) - expected).max() <= 6


def test_what_is_in_favour_is_red_and_what_is_against_is_blue():
    for layout in ("side", "overlay", "map"):
        _, bar, _ = shown(ramp(2, -2, signed=True), layout=layout)
        for (red, _, blue), sign in ((column(bar)[2], 1), (column(bar)[-3], -1)):
            assert sign * (red - blue) > 60, layout


@pytest.mark.parametrize(
    ("signed", "low", "places"),
    [
        (False, 0.5, {"2": 0, "0.5": 1}),
        (True, -2, {"2": 0, "0": 0.5, "-2": 1}),
        (True, -1, {"2": 0, "0": 0.5, "-2": 1}),
    ],
)
def test_numbers_stand_at_their_colours(signed, low, places):
    """The middle of a digit is at the value's height on the bar, or as near as the bar's ends allow."""
    _, bar, numbers = shown(ramp(2, low, signed=signed))
    assert [text.text for text in numbers] == list(places)
    for text, place in zip(numbers, places.values(), strict=True):
        assert abs(text.y - 0.36 * text.size - (bar.y + place * 512)) < 0.5 * text.size
        assert bar.y < text.y <= bar.y + 512 and text.x >= bar.x + bar.image.width


def test_the_map_alone_has_a_contour_too():
    """Of a map whose values are the distances from a point, the line is a circle of known radius."""
    size = (400, 400)
    rows, columns = np.mgrid[:100, :100] + 0.5
    heatmap = (80 - np.hypot(rows - 50, columns - 50)).astype(np.float32)
    item = Explanation(
        heatmap, heatmap, 0, "x", 0.0, 0.5, [], "m", "rollout", {}, Image.new("RGB", size), Placement(size, (100, 100),
        (0, 0), (100, 100)),
    )  # fmt: skip
    with_line, without = (
        np.asarray(next(part.image for part in figure_of(item, style).items if isinstance(part, Raster)), int)
        for style in (Style("map", contour=0.5), Style("map"))
    )
    low, high = heatmap.min(), heatmap.max()
    radius = 4 * (80 - (low + 0.5 * (high - low)))
    distance = np.abs(np.hypot(*(np.mgrid[:400, :400] + 0.5 - 200)) - radius)
    assert (with_line[distance < 0.2] > 235).all() and not (without[distance < 0.2] > 235).all(-1).any()
    assert np.array_equal(with_line[distance > 3], without[distance > 3])
