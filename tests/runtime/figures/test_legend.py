"""A sheet's legend, and what stands above and in its cells: against maps of which every value is known."""

from dataclasses import replace

import cmap
import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Placement, Style
from onnxplain.runtime.figures.canvas import Raster, Text, text_width
from onnxplain.runtime.figures.sheet import Cell, Row, sheet_of
from tests.helpers.ramp import ramp

SIZE = (224, 60)  # height and width of images, as on sheets
BAR = (96, 8)  # width and height of a colour bar in the legend
EACH, SHARED = "Every map's colours span its own values.", "The colours of all maps span the same values."
BOTH = "The colours of all maps span the same values, of signed maps on both sides of 0."
PIXELS, UNSEEN = (
    "Maps of single pixels are averaged over half a patch.",
    "What the model did not see of the image is grey.",
)
NAMES = ("rollout", "gradcam with a name of many words that takes several lines", "raw attention (layer=2)")
UNSIGNED, LARGE, SIGNED = ramp(2, 0.5, SIZE), ramp(7, 1, SIZE), ramp(1.5, -3, SIZE, signed=True)
FLAT = ramp(1, 1, SIZE)


def sheet(*items, names=None, **style):
    """The texts and images on the sheet of these maps, in one row."""
    names = names or [f"map {number}" for number in range(len(items))]
    cells = [Cell(name, item) for name, item in zip(names, items, strict=True)]
    parts = sheet_of([Row("cat", "25.7%", items[0].image, cells)], Style(**style)).items
    return tuple([part for part in parts if isinstance(part, kind)] for kind in (Text, Raster))


def bars(texts, rasters):
    """The colour bars of the legend: the text before it, its colours from left to right, and the text after it."""
    found = []
    for bar in (raster for raster in rasters if raster.image.size == BAR):
        line = [text for text in texts if bar.y < text.y <= bar.y + BAR[1]]
        (before,) = [text for text in line if 0 < bar.x - (text.x + text_width(text.text, text.size)) < 10]
        (after,) = [text for text in line if 0 < text.x - (bar.x + BAR[0]) < 10]
        found.append((before.text, np.asarray(bar.image, int)[BAR[1] // 2], after.text))
    return found


@pytest.mark.parametrize(
    ("item", "before", "after", "name"),
    [(UNSIGNED, "low", "high", "cmasher:ember"), (SIGNED, "against the class", "for it", "matplotlib:coolwarm")],
)
def test_the_words_stand_at_their_colours(item, before, after, name):
    ((low, colours, high),) = bars(*sheet(item, layout="map", opacity=0.3))
    assert (low, high) == (before, after)
    expected = 255 * np.asarray(cmap.Colormap(name)((np.arange(BAR[0]) + 0.5) / BAR[0]))[:, :3]
    assert np.abs(colours - expected).max() <= 8


@pytest.mark.parametrize("item", [UNSIGNED, SIGNED])
@pytest.mark.parametrize("style", [{}, {"opacity": 0.4}, {"colormap": "viridis"}, {"layout": "map", "opacity": 0.4}])
def test_the_bar_has_the_colours_of_the_map(item, style):
    """Of a map that gets higher from below to above, over an image as grey as what is behind the bar."""
    symmetric = ramp(3, -3, SIZE, signed=True) if item.signed else item
    texts, rasters = sheet(symmetric, **style)
    ((_, colours, _),) = bars(texts, rasters)
    upwards = np.asarray(rasters[1].image, int)[::-1, 0]
    places = (np.arange(BAR[0]) + 0.5) / BAR[0] * (SIZE[0] - 1)
    expected = np.stack([np.interp(places, np.arange(SIZE[0]), channel) for channel in upwards.T], -1)
    assert np.abs(colours - expected).max() <= 8 and np.ptp(colours, axis=0).max() > 50


def test_there_is_a_bar_for_each_kind_of_map():
    found = bars(*sheet(SIGNED, UNSIGNED, FLAT, LARGE))
    assert [(low, high) for low, _, high in found] == [("low", "high"), ("against the class", "for it")]
    red, _, blue = found[1][1][-1] - found[1][1][0]  # from what is against the class to what is for it
    assert red > 60 and blue < -60
    assert bars(*sheet(FLAT)) == []


@pytest.mark.parametrize(
    ("items", "ends"),
    [
        ([UNSIGNED, LARGE], [("0.5", "7")]),
        ([LARGE, SIGNED], [("1", "7"), ("-7, against the class", "7, for it")]),
        ([SIGNED], [("-3, against the class", "3, for it")]),
        ([ramp(0.0123, 0, SIZE)], [("0", "0.012")]),
    ],
)
def test_a_shared_scale_is_given_in_numbers(items, ends):
    assert [(low, high) for low, _, high in bars(*sheet(*items, scale="shared"))] == ends


def notes(texts, rasters):
    """What stands below the legend's bars."""
    below = max(raster.y + raster.image.height for raster in rasters)
    return " ".join(text.text for text in texts if text.y > below + BAR[1])


def test_the_legend_says_only_what_is_true_of_the_sheet():
    pixels = replace(UNSIGNED, pixel_level=True)
    cropped = replace(
        ramp(2, 0.5, (100, 60)), image=UNSIGNED.image, placement=Placement(SIZE, SIZE, (62, 0), (100, 60))
    )
    assert notes(*sheet(UNSIGNED, pixels)) == f"{EACH} {PIXELS}"
    assert notes(*sheet(UNSIGNED, cropped)) == f"{EACH} {UNSEEN}"
    assert notes(*sheet(cropped, pixels)) == f"{EACH} {PIXELS} {UNSEEN}"


@pytest.mark.parametrize(("scale", "sentence"), [("each", EACH), ("shared", SHARED)])
@pytest.mark.parametrize("items", [[UNSIGNED], [UNSIGNED, LARGE, SIGNED], [FLAT]])
def test_the_legend_says_what_the_colours_span(scale, sentence, items):
    texts, rasters = sheet(*items, scale=scale)
    sentence = BOTH if scale == "shared" and len(items) > 1 else sentence
    assert notes(texts, rasters) == sentence
    highest = [np.asarray(raster.image, int)[0, 0] for raster in rasters[1:3]]  # of UNSIGNED and LARGE
    if len(items) > 1:
        assert np.array_equal(*highest) == (scale == "each")


@pytest.mark.parametrize("count", [3, 12])
def test_names_stand_right_above_their_images(count):
    """Whole, and those of one line too where another on the line takes several."""
    names = [f"{NAMES[number % 3]} {number}" for number in range(count)]
    texts, rasters = sheet(*[ramp(2 + number, 0, SIZE) for number in range(count)], names=names)
    lines = []
    for name, cell in zip(["image", *names], rasters, strict=False):
        above = [text for text in texts[2:] if text.x == cell.x and -SIZE[0] < text.y - cell.y <= 0]
        assert " ".join(text.text for text in above) == name
        assert [cell.y - text.y for text in above] == [4 + 17 * place for place in reversed(range(len(above)))]
        lines.append(len(above))
    assert min(lines) == 1 and max(lines) > 2


def test_the_layout_map_shows_the_maps_alone():
    """In the colormap's own colours whatever the image is; of the other layouts all show it below the map."""
    drawn = {}
    for layout in ("side", "overlay", "map", "bare"):
        for colour in ("navy", "white"):
            item = ramp(2, 0.5, SIZE, Image.new("RGB", (1, 1), colour).getpixel((0, 0)))
            image, cell = sheet(item, layout=layout, opacity=0.4)[1][:2]
            assert np.array_equal(image.image, item.image)
            drawn[layout, colour] = np.asarray(cell.image, int)[:, 0]
    expected = 255 * np.asarray(cmap.Colormap("cmasher:ember")(np.linspace(1, 0, SIZE[0])))[:, :3]
    for colour in ("navy", "white"):
        assert np.abs(drawn["map", colour] - expected).max() <= 6
        assert np.array_equal(drawn["side", colour], drawn["overlay", colour])
        assert np.array_equal(drawn["side", colour], drawn["bare", colour])
    assert np.abs(drawn["side", "navy"] - drawn["side", "white"]).min() > 30
