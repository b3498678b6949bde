"""How explanations are shown: overlays of maps with and without negative values, of patches and of pixels."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from onnxplain.contract.errors import one_line
from onnxplain.runtime import Explanation, Placement
from onnxplain.runtime.figures.colours import find_colours
from onnxplain.runtime.figures.style import OPACITY

GREY = Image.new("RGB", (60, 40), (100, 100, 100))


def _explanation(heatmap, **changes):
    heatmap = np.asarray(heatmap, dtype=np.float32)
    placement = Placement((40, 60), heatmap.shape, (0, 0), heatmap.shape)
    return Explanation(heatmap, heatmap, 0, "x", 0.0, 0.5, [], "m", "rollout", {}, GREY, placement, **changes)


def _random(seed=0):
    return np.random.default_rng(seed).uniform(1, 3, size=(40, 60))


def _changed(explanation):
    """How far each pixel's colour is from the picture's."""
    return np.abs(np.asarray(explanation.overlay(), int) - 100).sum(-1)


def test_overlay():
    shown = _explanation(_random())
    assert shown.overlay().size == GREY.size and shown.overlay().mode == "RGB"
    change = _changed(shown)
    assert change[np.unravel_index(shown.heatmap.argmin(), change.shape)] == 0
    assert change[np.unravel_index(shown.heatmap.argmax(), change.shape)] > 30


def test_a_constant_map_leaves_the_image_bare():
    for value in (-1, 0, 3):
        for pixel_level in (False, True):
            with np.errstate(all="raise"):
                assert not _changed(_explanation(np.full((40, 60), value), pixel_level=pixel_level)).any()


def test_maps_without_negative_values_are_scaled_from_their_minimum():
    plain = _explanation(_random())
    for other in (plain.heatmap * 7, plain.heatmap - plain.heatmap.min()):
        assert np.array_equal(plain.overlay(), _explanation(other).overlay())


def test_negative_values_count_as_zero():
    signed = _random() - 2
    assert np.array_equal(_explanation(signed).overlay(), _explanation(np.maximum(signed, 0)).overlay())
    assert not _changed(_explanation(signed))[signed <= 0].any()
    assert not _changed(_explanation(-_random())).any()


def test_a_relative_map_has_no_zero():
    plain = _explanation(_random())
    assert np.array_equal(_explanation(_random() - 50, relative=True).overlay(), plain.overlay())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_few_high_pixels_do_not_darken_the_others(sign):
    heatmap = _random() - 2
    heatmap[0, 0], heatmap[5, 5] = sign * 1000, 1000
    fine = _explanation(heatmap, pixel_level=True)
    assert (_changed(fine) > 30).mean() > 0.3 > (_changed(replace(fine, pixel_level=False)) > 30).mean()
    top = find_colours(None, False, OPACITY)
    share = top.alpha[-1] / 255
    assert np.abs(np.asarray(fine.overlay())[5, 5] - (100 * (1 - share) + top.palette[-1] * share)).max() <= 1


def test_pixels_of_opposite_signs_cancel_in_the_overlay():
    """A chequerboard of evidence for and against shows nothing, a patch with more evidence for does."""
    heatmap = np.where(np.indices((40, 60)).sum(0) % 2 == 0, 1.0, -1.0)
    heatmap[10:20, 20:30] += 0.5
    fine = replace(_explanation(heatmap, pixel_level=True), tokens=np.zeros((10, 15), np.float32))
    change = _changed(fine)
    assert (change[12:18, 22:28] > 30).all() and not change[:7].any() and not change[:, 34:].any()
    np.testing.assert_array_equal(fine.heatmap, heatmap)


def test_foreign_messages_become_one_line_of_bounded_length():
    assert one_line(ValueError("a\n  b\t c")) == "a b c"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 1000))) == 300 and one_line(ValueError("x" * 1000)).endswith("x …")
