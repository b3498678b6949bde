"""Figures of heads and features: what is on them, for wide, tall, small and large pictures."""

import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Features, Heads, Placement
from onnxplain.runtime.figures.canvas import Raster, Text
from onnxplain.runtime.figures.overlay import GREY
from onnxplain.runtime.figures.sheet import CELL
from onnxplain.runtime.figures.views import features_figure, heads_figure
from tests.helpers.command_line import random_image

SIZES = [(60, 40), (40, 90), (2000, 30), (16, 16), (1200, 800)]


def placed(size):
    """An input of 32 x 48 pixels, which is the middle of the picture."""
    width, height = size
    return Placement((height, width), (40, 60), (4, 6), (32, 48))


def heads_of(size, count=3):
    maps = np.random.default_rng(0).random((count, 4, 6)).astype(np.float32)
    return Heads(maps, 7, False, "vit", random_image(0, *size), placed(size))


def features_of(*sizes):
    rng = np.random.default_rng(0)
    colours = rng.random((len(sizes), 4, 6, 3)).astype(np.float32)
    foreground = rng.random((len(sizes), 4, 6)) > 0.5
    colours[~foreground] = 0
    pictures = tuple(random_image(number, *size) for number, size in enumerate(sizes))
    empty = np.zeros((len(sizes), 4, 6, 0), np.float32)
    return Features(empty, empty[..., 0:0], foreground, colours, "vit", pictures, tuple(map(placed, sizes)))


def on(canvas, kind):
    return [item for item in canvas.items if isinstance(item, kind)]


def assert_inside(canvas):
    for item in on(canvas, Raster):
        assert item.x >= 0 and item.x + item.image.width <= canvas.width
        assert item.y >= 0 and item.y + item.image.height <= canvas.height
        assert max(item.image.size) <= CELL


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("count", [1, 12])
def test_heads(size, count):
    found = heads_of(size, count)
    canvas = heads_figure(found)
    assert_inside(canvas)
    texts = [item.text for item in on(canvas, Text)]
    assert texts[0] == "layer 7" and {f"head {number}" for number in range(count)} <= set(texts)
    assert len(on(canvas, Raster)) == 1 + count + 1  # with the colour bar
    assert np.array_equal(found.figure(), found.figure()) and found.figure().mode == "RGB"


def test_the_pool_has_a_name():
    one = heads_of((60, 40))
    pool = Heads(one.maps, 7, True, one.model, one.image, one.placement)
    assert on(heads_figure(pool), Text)[0].text == "attention pool"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features(size):
    found = features_of(size, (50, 50))
    canvas = features_figure(found, [0, 1])
    assert_inside(canvas)
    assert len(on(canvas, Raster)) == 6
    texts = [item.text for item in on(canvas, Text)]
    for number in (0, 1):
        share = f"foreground {found.foreground[number].mean():.0%} of the patches"
        assert texts[5 * number : 5 * number + 5] == ["vit", share, "image", "foreground", "features"]
    whole = found.figure()
    assert whole.mode == "RGB" and whole.size == (canvas.width, canvas.height)
    assert np.array_equal(whole, found.figure()) and found.figure(1).height < whole.height


def test_colours_and_foreground_stand_where_their_patches_are():
    """The picture is as large as the model's input, so that each pixel is one of the input's."""
    size = (CELL, CELL // 2)
    picture = random_image(0, *size)
    whole = Placement(size[::-1], size[::-1], (0, 0), size[::-1])
    colours = np.random.default_rng(0).random((1, 4, 7, 3)).astype(np.float32)
    foreground = np.zeros((1, 4, 7), bool)
    foreground[0, 1, 2] = True
    found = Features(colours, colours[..., 0], foreground, colours, "vit", (picture,), (whole,))
    same, masked, coloured = (np.asarray(item.image) for item in on(features_figure(found, [0]), Raster))
    assert np.array_equal(same, picture)
    for y in range(4):
        for x in range(7):
            patch = coloured[28 * y : 28 * y + 28, 32 * x : 32 * x + 32]
            assert (patch == np.rint(255 * colours[0, y, x])).all()
    kept = (masked == same).all(-1)
    assert kept[28:56, 64:96].all()
    assert masked.mean() > same.mean() and kept.mean() < 2 / 28


def test_what_the_model_did_not_see_is_grey():
    canvas = features_figure(features_of((60, 40)), [0])
    coloured = np.asarray(on(canvas, Raster)[2].image)
    assert (coloured[0] == GREY).all() and (coloured[:, 0] == GREY).all()
    assert not (coloured[coloured.shape[0] // 2] == GREY).all()


def test_files_of_features_are_rgb_images(tmp_path):
    features_of((60, 40)).figure().save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGB"
