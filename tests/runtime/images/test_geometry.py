"""Maps land where they belong: against torch's bilinear interpolation, and with a hot patch in a known place."""

import numpy as np
import pytest
import torch
from PIL import Image

from onnxplain.contract.preprocessing import CROP_MODES
from onnxplain.runtime import Preprocessing, preprocess
from onnxplain.runtime.images.geometry import Placement, patch_sums, resize


def _torch_resize(values, size):
    return torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size, mode="bilinear", align_corners=False
    )[0, 0].numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("before", "after"), [((14, 14), (224, 224)), ((3, 7), (50, 31)), ((40, 30), (13, 90)), ((1, 1), (4, 4))]
)
def test_resize_equals_torch(before, after, dtype):
    values = np.random.default_rng(0).normal(size=before).astype(dtype)
    result = resize(values, after)
    assert result.dtype == dtype
    # torch computes the sampling positions of a float32 map in float32, these are in float64
    np.testing.assert_allclose(
        result, _torch_resize(values, after), rtol=0, atol=2e-5 if dtype == np.float32 else 1e-12
    )


def test_placing_the_whole_image_is_resizing():
    values = np.random.default_rng(0).normal(size=(24, 32))
    placement = Placement((151, 67), (24, 32), (0, 0), (24, 32))
    np.testing.assert_allclose(placement.place(values), _torch_resize(values, (151, 67)), rtol=0, atol=1e-12)


def test_unscaled_crop_is_copied_and_the_rest_is_zero():
    values = np.random.default_rng(0).uniform(1, 2, size=(4, 6))
    expected = np.zeros((10, 9))
    expected[3:7, 2:8] = values
    np.testing.assert_allclose(Placement((10, 9), (10, 9), (3, 2), (4, 6)).place(values), expected, atol=1e-12)


def test_padding_is_left_out():
    values = np.random.default_rng(0).uniform(1, 2, size=(8, 8))
    np.testing.assert_allclose(Placement((4, 8), (4, 8), (-2, 0), (8, 8)).place(values), values[2:6], atol=1e-12)


def test_scaled_crop_equals_torch_inside():
    """A canvas of the resized picture, interpolated by torch: the same wherever no cropped pixel takes part."""
    values = np.random.default_rng(0).uniform(1, 2, size=(32, 32))
    canvas = np.zeros((36, 54))
    canvas[2:34, 11:43] = values
    expected = _torch_resize(canvas, (100, 150))
    given = Placement((100, 150), (36, 54), (2, 11), (32, 32)).place(values)
    covered = _torch_resize((canvas > 0).astype(np.float64), (100, 150))
    np.testing.assert_allclose(given[covered == 1], expected[covered == 1], atol=1e-12)
    assert not given[covered == 0].any()
    assert ((given > 0) == (covered > 0.5))[np.abs(covered - 0.5) > 0.3].all()


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
@pytest.mark.parametrize("picture_size", [(200, 120), (110, 240), (40, 33)])  # (width, height)
@pytest.mark.parametrize("crop_pct", [0.8, 1.0, 1.25])
def test_a_bright_spot_comes_back_to_its_place(crop_mode, size, picture_size, crop_pct):
    """A picture with one bright square; the model's input itself, as a map, must light up the same square."""
    width, height = picture_size
    centre = np.array([height * 0.53, width * 0.47])
    half = max(2, min(picture_size) // 16)
    top, left = (centre - half).astype(int)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top : top + 2 * half, left : left + 2 * half] = 255
    settings = Preprocessing(size, (0, 0, 0), (1, 1, 1), crop_pct, crop_mode, "bilinear")
    pixels, placement = preprocess(Image.fromarray(picture), settings)
    heatmap = placement.place(pixels[0])
    assert heatmap.shape == (height, width)
    mass = heatmap / heatmap.sum()
    found = np.array([(mass.sum(1) * (np.arange(height) + 0.5)).sum(), (mass.sum(0) * (np.arange(width) + 0.5)).sum()])
    assert heatmap[top + half, left + half] > 0.5
    np.testing.assert_allclose(found, [top + half, left + half], atol=1)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_a_hot_patch_lands_on_its_part_of_the_image(crop_mode):
    """Patch (1, 2) of a 4 x 4 grid on a 400 x 200 picture, with the places worked out by hand."""
    tokens = np.zeros((4, 4))
    tokens[1, 2] = 1
    _, placement = preprocess(
        Image.new("RGB", (400, 200)), Preprocessing((64, 64), (0, 0, 0), (1, 1, 1), 1.0, crop_mode)
    )
    heatmap = placement.place(resize(tokens, (64, 64)))
    # The patch's centre is at x = 40/64, y = 24/64 of the input. center: the input is the middle 200 x 200;
    # squash: the whole picture; border: the picture lies in rows 16..48 of the input, 6.25 picture pixels to one.
    x, y = {"center": (225, 75), "squash": (250, 75), "border": (250, 50)}[crop_mode]
    peak = np.argwhere(heatmap == heatmap.max()).mean(axis=0) + 0.5
    np.testing.assert_allclose(peak, [y, x], atol=1)
    if crop_mode == "center":
        assert not heatmap[:, :100].any() and not heatmap[:, 300:].any()


def test_outside_the_crop_is_what_is_asked_for():
    values = np.random.default_rng(0).normal(size=(4, 6))
    placement = Placement((8, 10), (8, 10), (2, 3), (4, 6))
    given = placement.place(values, -5.0)
    np.testing.assert_array_equal(given[2:6, 3:9], values)
    given[2:6, 3:9] = -5
    assert (given == -5).all()


@pytest.mark.parametrize(("size", "grid"), [((160, 288), (10, 18)), ((12, 20), (3, 5)), ((15, 22), (4, 5))])
def test_patch_sums(size, grid):
    """Where patches do not fill the input evenly, every pixel still belongs to one."""
    values = np.random.default_rng(0).normal(size=size)
    given = patch_sums(values, grid)
    assert given.shape == grid
    np.testing.assert_allclose(given.sum(), values.sum(), atol=1e-9)
    if size[0] % grid[0] == size[1] % grid[1] == 0:
        height, width = size[0] // grid[0], size[1] // grid[1]
        for row, column in np.ndindex(*grid):
            patch = values[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert given[row, column] == pytest.approx(patch.sum(), abs=1e-9)
