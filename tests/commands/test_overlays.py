"""Overlays of photographs of which the model sees a part: as if that part were all, and the rest in grey."""

import re
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import Image

from onnxplain.commands.display import location
from onnxplain.contract.preprocessing import CROP_MODES
from onnxplain.runtime import METHODS, Explainer, Preprocessing, preprocess
from tests.helpers.tiny_artifact import GRID, SIZE, build

SEEN = Preprocessing(SIZE, (0.5,) * 3, (0.25,) * 3, 0.9, "center", "box")
WHOLE = replace(SEEN, crop_pct=1.0)
EVIDENCE = [name for name, method in METHODS.items() if not method.relative]


@pytest.fixture(scope="module")
def explainers(tmp_path_factory):
    """The same model behind timm's crop of 0.9, and without a crop."""
    pytest.importorskip("scipy")
    folder = tmp_path_factory.mktemp("artifacts")
    return [
        Explainer(build(folder / f"{one.crop_pct}.onnx", preprocessing=one), device="cpu", threads=1)
        for one in (SEEN, WHOLE)
    ]


def _photograph(name, scale):
    """A photograph that preprocessing makes smaller by `scale`, and the part of it that the model sees.

    The input of 16 x 24 is cut from 17 x 26 pixels, whose top left one it leaves out; as these are means of
    `scale` x `scale` pixels each, the part alone gives the same input.
    """
    photograph = Image.fromarray(getattr(skimage.data, name)()).resize((26 * scale, 17 * scale))
    box = (scale, 0, 25 * scale, 16 * scale)
    part = photograph.crop(box)
    given, expected = preprocess(photograph, SEEN), preprocess(part, WHOLE)
    assert np.array_equal(given[0], expected[0]) and given[1] != expected[1]
    return photograph, box, part


@pytest.mark.parametrize(("name", "scale"), [("chelsea", 17), ("coffee", 23), ("coffee", 1)])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_model_sees_is_shown_as_if_it_were_the_whole_image(method, name, scale, explainers):
    photograph, box, part = _photograph(name, scale)
    shown = explainers[0].explain(photograph, 3, method).overlay()
    alone = explainers[1].explain(part, 3, method).overlay()
    given, expected = (np.asarray(image).astype(int) for image in (shown.crop(box), alone))
    assert np.abs(given - expected).max() <= 1
    change = np.abs(expected - np.asarray(explainers[1].explain(part, 3, method).overlay(opacity=0))).sum(-1)
    assert (change > 20).mean() > 0.01  # there is something to see
    assert np.ptp(change) > 30 and (METHODS[method].signed or change.min() < 10)  # and it is not all yellow

    colours = np.asarray(shown).astype(int)
    left, _, right, lower = box
    for beyond in (colours[lower:], colours[:, :left], colours[:, right:]):
        assert np.array_equal(beyond, np.repeat(beyond[..., :1], 3, axis=-1))  # grey
        assert beyond.min() > 50 and beyond.max() < 205


def _brightness(item):
    """Of each pixel of an overlay from black to white, where what counts against the class is not drawn."""
    plain = replace(item, signed=False, image=Image.new("RGB", item.image.size))
    return np.asarray(plain.overlay("gray", opacity=1)).sum(-1, dtype=int)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("crop_pct", [0.9, 1.3])
@pytest.mark.parametrize("method", ["rollout", "attnlrp", "vit_reciprocam"])
def test_scaling_is_by_what_the_image_shows(method, crop_pct, crop_mode, explainers):
    """Neither what was cropped away nor the padding decides what is bare and what is brightest."""
    _, explainer = explainers
    photograph = Image.fromarray(skimage.data.chelsea())
    _, placement = preprocess(photograph, replace(SEEN, crop_pct=crop_pct, crop_mode=crop_mode))
    item = replace(
        explainer.explain(photograph, 3, method), placement=placement, image=Image.new("RGB", photograph.size)
    )
    rows, columns = placement.shown
    padding = np.ones(SIZE, bool)
    padding[rows, columns] = False
    heatmap = item.input_heatmap.copy()
    heatmap[padding] = 50 * np.abs(heatmap).max() * np.sign(np.random.default_rng(0).normal(size=padding.sum()))
    if not item.pixel_level:  # the means of pixel-level maps at the edge are partly of padding
        given, expected = (np.asarray(one.overlay()) for one in (replace(item, input_heatmap=heatmap), item))
        edge = 300 // 12 + 1  # a pixel of the input, on its way to the first one of padding
        assert np.array_equal(given[edge:-edge, edge:-edge], expected[edge:-edge, edge:-edge])
    brightness = _brightness(item)[placement.seen]
    assert brightness.min() < 30 and brightness.max() > 500


@pytest.mark.parametrize("method", METHODS)
def test_the_place_in_words_is_one_place_of_the_map_that_is_drawn(method, explainers):
    """The patch holds the pixel, and at the pixel the overlay is brightest, on several photographs."""
    for seed, (width, height) in enumerate([(45, 30), (60, 41), (30, 90), (451, 300)]):
        noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        photograph = Image.fromarray(noise).resize((width, height))
        item = explainers[0].explain(photograph, 3, method)
        words = re.fullmatch(
            r"highest at the .*: pixel x (\d+), y (\d+); patch row (\d+), column (\d+) of 2 x 3", location(item)
        )
        x, y, row, column = map(int, words.groups())
        scale = min(height / 17, width / 26)
        sizes = (round(height / scale), round(width / scale))
        for place, length, resized, crop, patch in zip(
            (y, x), (height, width), sizes, SIZE, (row, column), strict=True
        ):
            position = (place + 0.5) * resized / length - round((resized - crop) / 2)
            assert 0 <= position < crop and patch == position // 8
        brightness = _brightness(item)
        rows, columns = item.placement.seen
        assert brightness[y, x] == brightness[rows, columns].max() > 500


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2), (4, 1), (3, 2), (1, 40)])
def test_the_smallest_images_are_shown_too(size, explainers):
    for explainer in explainers:
        for method in ("rollout", "attnlrp"):
            item = explainer.explain(Image.new("RGB", size, "red"), 3, method)
            assert item.overlay().size == size and item.heatmap.shape == size[::-1]
            assert "highest at" in location(item) or "the heatmap is" in location(item)
            rows, columns = item.placement.seen
            assert rows.stop > rows.start and columns.stop > columns.start
            assert item.placement.patch_of((rows.start, columns.stop - 1), GRID) <= (1, 2)
