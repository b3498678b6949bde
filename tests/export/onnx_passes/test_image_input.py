"""Images as input: the graph prepares them as the runtime does, bit for bit, and places maps where it places them."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from PIL import Image

from onnxplain.contract.preprocessing import CROP_MODES, CROP_ROUNDINGS, INTERPOLATIONS
from onnxplain.export.onnx_passes.image_input import ImageInputPass
from onnxplain.export.onnx_passes.name_values import NameValuesPass
from onnxplain.runtime import Preprocessing, preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(1, 1), (1, 7), (9, 1), (2, 3), (24, 32), (33, 33), (31, 64), (64, 31), (101, 57), (57, 103), (97, 300)]
OPSETS = (18, 20, 23)
# Input size, crop_pct: cut off, not square, nothing to cut off, padded
WINDOWS = [((40, 40), 0.875), ((16, 44), 0.9), ((33, 33), 1.0), ((24, 24), 1.3)]


def _session(settings, opset=20):
    """A graph whose maps are its pixels: one that is 0 outside of what it saw, and one that has its minimum there."""
    height, width = settings.size
    text = f"""<ir_version: 9, opset_import: ["" : {opset}]>
        g (float[batch, 3, {height}, {width}] pixels) => (float[batch, 3, {height}, {width}] seen,
           float[batch, 3, {height}, {width}] heatmap_a, float[batch, 3, {height}, {width}] heatmap_b)
        {{ seen = Identity(pixels) heatmap_a = Abs(pixels) heatmap_b = Neg(pixels) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    for step in (ImageInputPass(settings, {"heatmap_a": False, "heatmap_b": True}), NameValuesPass({})):
        step(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def _assert_as_runtime(session, settings, image):
    seen, plain, relative = session.run(None, {"image": image[None]})
    pixels, placement = preprocess(Image.fromarray(image), settings)
    np.testing.assert_array_equal(seen[0], pixels)
    for channel, values in enumerate(pixels):
        maps = (plain, np.abs(values), 0.0), (relative, -values, float((-values).min()))
        for given, heatmap, outside in maps:
            expected = placement.place(heatmap, outside)
            assert given.shape[2:] == image.shape[:2]
            np.testing.assert_allclose(given[0, channel], expected, rtol=0, atol=1e-6 * np.abs(heatmap).max())
            unseen = np.ones(image.shape[:2], bool)
            unseen[placement.seen] = False
            assert (given[0, channel][unseen] == np.float32(outside)).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("number", range(2))
def test_every_preprocessing(interpolation, crop_mode, number):
    for window, rounding in zip(WINDOWS[number::2], CROP_ROUNDINGS, strict=True):
        size, crop_pct = window
        settings = Preprocessing(size, MEAN, STD, crop_pct, crop_mode, interpolation, rounding)
        session = _session(settings, OPSETS[number])
        for shape in SHAPES:
            _assert_as_runtime(session, settings, _noise(*shape, 3))


def test_a_mean_that_is_no_colour_pads_with_the_nearest_one():
    settings = Preprocessing((40, 24), (1.2, -0.3, 0.5), STD, 1.0, "border")
    assert settings.padding == (255, 0, 128)
    _assert_as_runtime(_session(settings), settings, _noise(12, 20, 3))


@pytest.mark.parametrize("opset", OPSETS)
def test_random_sizes_up_and_down(opset):
    rng = np.random.default_rng(opset)
    settings = Preprocessing((70, 48), MEAN, STD, 0.9, "center")
    session = _session(settings, opset)
    for height, width in rng.integers(1, 400, (12, 2)).tolist():
        _assert_as_runtime(session, settings, _noise(height, width, 3))


def test_large_and_elongated_images():
    settings = Preprocessing((224, 224), MEAN, STD)
    session = _session(settings)
    for shape in [(1100, 1501), (3000, 3), (5, 2001), (150, 4000)]:
        _assert_as_runtime(session, settings, _noise(*shape, 3))


def test_extreme_values():
    """Black and white, where a sum is largest, with windows of several hundred pixels."""
    settings = Preprocessing((24, 24), MEAN, STD, 1.0, "squash", "lanczos")
    session = _session(settings)
    for image in (np.full((2400, 2400, 3), 255, np.uint8), 255 * (_noise(2400, 1200, 3) >> 7)):
        _assert_as_runtime(session, settings, image)


def test_images_of_one_batch_do_not_mix():
    settings = Preprocessing((32, 32), MEAN, STD)
    session = _session(settings)
    images = _noise(3, 50, 40, 3)
    together = session.run(None, {"image": images})
    for row, image in enumerate(images):
        for batched, alone in zip(together, session.run(None, {"image": image[None]}), strict=True):
            np.testing.assert_array_equal(batched[row], alone[0])


@pytest.mark.parametrize("shape", [(300, 100), (300, 180), (180, 300)])
def test_the_order_of_the_two_steps(shape):
    """As Pillow 13: what shrinks much more in height is first made less high; said in steps of one axis each."""
    settings = Preprocessing((50, 50), (0, 0, 0), (1, 1, 1), 1.0, "squash", "bicubic")
    image = Image.fromarray(_noise(*shape, 3))
    between = (image.width, 50) if shape == (300, 100) else (50, image.height)
    expected = np.asarray(image.resize(between).resize((50, 50)))
    (seen, *_) = _session(settings).run(None, {"image": np.asarray(image)[None]})
    np.testing.assert_array_equal(seen[0], expected.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_one_resize_would_not_do():
    """onnxruntime's `Resize` in two dimensions, which does not round between them, is levels off."""
    image = _noise(480, 640, 3)
    text = """<ir_version: 9, opset_import: ["" : 20]> g (float[1, 3, h, w] x, int64[4] size) => (float[1, 3, a, b] y) {
        y = Resize<mode = "cubic", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1>(x, , , size) }"""
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    feeds = {"x": image.transpose(2, 0, 1)[None].astype(np.float32), "size": np.array([1, 3, 224, 224])}
    given = np.clip(np.floor(session.run(None, feeds)[0][0] + 0.5), 0, 255)
    expected = np.asarray(Image.fromarray(image).resize((224, 224))).transpose(2, 0, 1)
    assert np.abs(given - expected).max() >= 1
    settings = Preprocessing((224, 224), (0, 0, 0), (1, 1, 1), 1.0, "squash")
    seen = _session(settings).run(None, {"image": image[None]})[0][0]
    np.testing.assert_array_equal(np.rint(seen * 255), expected)


def test_what_it_requires():
    settings = Preprocessing((8, 8), MEAN, STD)
    text = """<ir_version: 9, opset_import: ["" : 20]>
        g (float[batch, 3, 8, 9] pixels) => (float[batch, 3, 8, 9] y) { y = Neg(pixels) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    with pytest.raises(ir.passes.PreconditionError, match=r"pixels is \[batch,3,8,9\]"):
        ImageInputPass(settings, {})(model)
    with pytest.raises(ir.passes.PreconditionError, match="no heatmap_x"):
        ImageInputPass(Preprocessing((8, 9), MEAN, STD), {"heatmap_x": False})(model)
