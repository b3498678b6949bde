"""What is on a figure, and where: panels, title, colour bar, frame; of pictures of all shapes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from onnxplain.contract.errors import OnnxplainError
from onnxplain.runtime import Explanation, Placement, Style
from onnxplain.runtime.figures.canvas import Box, Raster, Text, text_width
from onnxplain.runtime.figures.figure import figure_of
from onnxplain.runtime.figures.formats import encoded

SHOWN = {
    "cat": "cat",
    "Größe 日本, π": "Grosse ??, ?",
    "猫;犬": "class 3",
    "!?": "!?",
    "crane’s–bill": "crane's-bill",
    "Æ\u200b": "AE",
    "猫": "class 3",
    "": "class 3",
    "a\nb\x1b[0m": "a b [0m",
}  # labels, and what is drawn
RANDOM = np.random.default_rng(0)


def explanation(size=(400, 600), label="tabby, tabby cat", **changes):
    """Of a picture of that (height, width), of which the model saw the middle square."""
    picture = Image.fromarray(RANDOM.integers(0, 256, (*size, 3), np.uint8))
    heatmap = RANDOM.uniform(0.5, 2, (16, 16)).astype(np.float32)
    scale = 16 / min(size)
    resized = (round(size[0] * scale), round(size[1] * scale))
    offset = ((resized[0] - 16) // 2, (resized[1] - 16) // 2)
    placement = Placement(size, resized, offset, (16, 16))
    parameters = {"norm": "l2", "start_layer": 0}
    item = Explanation(
        heatmap, heatmap, 3, label, 1.5, 0.257, [], "vit_base", "gmar", parameters, picture, placement
    )  # fmt: skip
    return replace(item, **changes)


def on(item, kind, **style):
    return [part for part in figure_of(item, Style(**style)).items if isinstance(part, kind)]


def test_image_and_overlay_side_by_side():
    item = explanation()
    left, right, bar = on(item, Raster)
    assert np.array_equal(left.image, item.image) and np.array_equal(right.image, item.overlay())
    assert left.y == right.y == bar.y and left.x + 600 < right.x < right.x + 600 < bar.x
    assert bar.image.height == 400 and bar.image.width < 20


def test_the_other_layouts():
    item = explanation()
    for layout in ("overlay", "map"):
        panel, _ = on(item, Raster, layout=layout)
        assert panel.image.size == (600, 400)
        assert np.array_equal(panel.image, item.overlay()) == (layout == "overlay")
    assert np.array_equal(item.figure("bare"), item.overlay())
    assert item.figure().size == (item.figure("overlay").width + 612, item.figure("overlay").height)


def test_the_map_alone_shows_values_and_nothing_of_the_image():
    item = explanation()
    other = replace(item, image=Image.new("RGB", (600, 400), (9, 9, 9)))
    shown = on(item, Raster, layout="map")[0].image
    assert np.array_equal(shown, on(other, Raster, layout="map")[0].image)
    rows, columns = item.placement.seen
    inside = np.asarray(shown, int)[rows, columns].sum(-1)
    values = item.heatmap[rows, columns]
    assert np.corrcoef(inside.ravel(), values.ravel())[0, 1] > 0.97  # the palette gets lighter with the value
    assert (np.asarray(shown)[:, : columns.start] == 128).all()


def test_the_title_says_what_the_figure_shows():
    label, share, about = on(explanation(), Text)[:3]
    assert (label.text, share.text) == ("tabby, tabby cat", "25.7%")
    assert about.text == "gmar (norm=l2) · vit_base" and about.anchor == "end" and about.y == label.y
    numbers = [text.text for text in on(explanation(), Text)[3:]]
    item = explanation()
    assert [float(number) for number in numbers] == pytest.approx([2, 0.5], rel=0.05)
    signed = on(replace(item, signed=True, input_heatmap=item.input_heatmap - 1), Text)[3:]
    assert [float(text.text) for text in signed] == pytest.approx([1, 0, -1], rel=0.05)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 900), (10, 4000)])
@pytest.mark.parametrize("layout", ["side", "overlay", "map", "bare"])
def test_images_that_are_lines_of_pixels(size, layout):
    """What the model saw of them may have no room for a frame."""
    style = Style(layout)
    for format in ("png", "svg", "pdf"):
        assert encoded(figure_of(explanation(size), style), format, {})
    for box in on(explanation(size), Box, layout=layout) if layout != "bare" else ():
        assert box.left < box.right and box.top < box.bottom


@pytest.mark.parametrize("size", [(40, 1200), (1200, 40), (300, 300), (64, 96), (9, 3), (1, 1)])
@pytest.mark.parametrize("label", [*SHOWN, "word " * 100])
def test_everything_is_on_the_paper(size, label):
    item = explanation(size, label)
    for layout in ("side", "overlay", "map"):
        figure = figure_of(item, Style(layout))
        pictures = [part for part in figure.items if isinstance(part, Raster)]
        assert 384 <= max(pictures[0].image.size) <= 1600
        for part in pictures:
            assert part.x >= 0 and part.x + part.image.width <= figure.width
            assert part.y >= 0 and part.y + part.image.height <= figure.height
        texts = [part for part in figure.items if isinstance(part, Text)]
        for part in texts:
            width = text_width(part.text, part.size)
            left = part.x - (width if part.anchor == "end" else 0)
            assert left >= 0 and left + width <= figure.width + 1 and part.text.isprintable()
            assert part.size <= part.y <= figure.height
        title = [part for part in texts if part.y < pictures[0].y]
        if label in SHOWN:
            assert title[0].text == SHOWN[label]
        else:  # too long, and cut between or within words
            kept = title[0].text.removesuffix("…")
            assert title[0].text == f"{kept}…" and label.startswith(kept) and len(kept) > 10
        first, second, *_ = title
        assert first.x + text_width(first.text, first.size) < second.x


def test_sizes_of_the_image():
    small, large = explanation((40, 60)), explanation((400, 2000))
    assert on(small, Raster)[0].image.size == (384, 256) and on(large, Raster)[0].image.size == (1600, 320)
    assert on(large, Raster, max_size=500)[0].image.size == (500, 100)
    assert on(small, Raster, max_size=30)[0].image.size == (30, 20)
    assert small.overlay().size == (60, 40) and large.overlay().size == (2000, 400)
    assert large.overlay(max_size=500).size == (500, 100) and small.overlay(max_size=500).size == (60, 40)
    text = [on(one, Text)[0].size for one in (small, explanation((700, 760)), large)]
    assert text[0] == text[1] and text[2] > 2 * text[0]


def test_what_the_model_saw_is_framed():
    item = explanation((400, 600))
    rows, columns = item.placement.seen
    left, right, *_ = on(item, Raster)
    light = [box for box in on(item, Box) if box.colour == "#ffffff"]
    for box, panel in zip(light, (left, right), strict=True):
        assert (box.left, box.right) == (panel.x + columns.start, panel.x + columns.stop)
        assert (box.top, box.bottom) == (panel.y + rows.start, panel.y + rows.stop)
    assert not on(explanation((300, 300)), Box)


def test_a_constant_map_has_no_colours_and_no_bar():
    item = explanation()
    flat = replace(item, input_heatmap=np.ones((16, 16), np.float32))
    assert len(on(flat, Raster)) == 2 and len(on(flat, Text)) == 3
    assert np.array_equal(flat.overlay(), item.overlay(opacity=0))


def test_numbers_may_be_of_numpy():
    item = explanation()
    given = {"opacity": np.float32(0.5), "contour": np.float64(0.5), "max_size": np.int64(99)}
    assert item.figure(**given) == item.figure(opacity=0.5, contour=0.5, max_size=99)


def test_notebooks_show_the_figure():
    item = explanation()
    data = item._repr_png_()
    assert data.startswith(b"\x89PNG") and data == item._repr_png_()


@pytest.mark.parametrize(
    ("message", "style"),
    [
        ("there is no layout 'beside'", {"layout": "beside"}),
        ("there is no scale 'both'; there are: each, shared", {"scale": "both"}),
        ("there is no colormap 'virdis'; did you mean 'viridis'", {"colormap": "virdis"}),
        ("there is no colormap 3; the package cmap has ", {"colormap": 3}),
        ("such as viridis, magma, cividis, and coolwarm for signed maps", {"colormap": "Xq"}),
        ("`opacity` must be a number from 0 to 1, got 1.5", {"opacity": 1.5}),
        ("`contour` must be a number above 0 and below 1, got 0", {"contour": 0}),
        ("`max_size` must be an integer from 1 to 8192, got 0", {"max_size": 0}),
    ],
)
def test_mistakes(message, style):
    with pytest.raises(OnnxplainError) as caught:
        Style(**style)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    options = {name: value for name, value in style.items() if name != "scale"}
    if options:
        with pytest.raises(OnnxplainError):
            explanation().figure(**options)
