"""What of someone else's picture is read: some formats, so many pixels and bytes, and little memory on the way."""

import os
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from onnxplain.runtime import Explainer, Explanation, OnnxplainError, Placement, load_image, pipeline
from onnxplain.runtime.images import geometry, loading
from onnxplain.runtime.images import inputs as pictures_module
from onnxplain.runtime.images.loading import FORMATS, IMAGE_SUFFIXES, MAX_PIXELS
from onnxplain.runtime.images.prefetch import prefetch
from tests.helpers import tiny_artifact
from tests.helpers.command_line import assert_mistake, run

pytestmark = pytest.mark.usefixtures("folder")

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)).resize((30, 20))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\nshowpage\n%%EOF\n"


def _encoded(format, image=PHOTO, **options):
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# --- formats


@pytest.mark.parametrize("format", [*FORMATS, "MPO"])
def test_the_formats_are_read_whatever_the_suffix(format, tmp_path):
    data = _encoded(format, **({"save_all": True, "append_images": [PHOTO]} if format == "MPO" else {}))
    file = tmp_path / "picture.png"
    file.write_bytes(data)
    for source in (data, file):
        image = load_image(source)
        assert image.mode == "RGB" and np.abs(np.asarray(image, int) - np.asarray(PHOTO, int)).mean() < 12


def test_the_suffixes_are_those_of_the_formats():
    known = Image.registered_extensions()
    assert {suffix: known[suffix] for suffix in IMAGE_SUFFIXES} == {
        suffix: format for format, suffixes in FORMATS.items() for suffix in suffixes
    }


def test_ghostscript_is_not_started(tmp_path, monkeypatch):
    """A program of that name, first on the path, tells when it is: it is by Pillow alone, but not by load_image."""
    program, started, file = tmp_path / "gs", tmp_path / "started", tmp_path / "picture.png"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    file.write_bytes(EPS)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    for source in (file, EPS):
        with pytest.raises(OnnxplainError, match=r"not an image in a format that is read \(PNG, JPEG, .*JPEG2000\)"):
            load_image(source)
    assert not started.exists()
    with pytest.raises(OSError), Image.open(file) as image:
        image.load()
    assert started.exists()


# --- limits


def _header(width, height):
    """A PNG of that size, by its header; there is next to nothing in it."""
    data = bytearray(_encoded("PNG", Image.new("1", (1, 1))))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("format", FORMATS)
def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(format, tmp_path, monkeypatch):
    data, several = _encoded(format), {"save_all": True, "append_images": [PHOTO] * 3}
    sources = [data, _encoded(format, **several)] if format in ("GIF", "WEBP", "TIFF", "AVIF", "PNG") else [data]
    for source in sources:
        assert load_image(source, max_pixels=600).size == (30, 20)
    monkeypatch.setattr(loading, "decode", lambda *arguments: pytest.fail("decoded"))
    (tmp_path / "picture").write_bytes(data)
    for source in (*sources, tmp_path / "picture"):
        with pytest.raises(OnnxplainError, match=r"30 x 20 pixels, more than the limit of 599; .*`max_pixels=600`"):
            load_image(source, max_pixels=599)


def test_a_frame_counts_where_it_is_larger_than_the_canvas():
    data = bytearray(_encoded("GIF"))
    data[6:10] = (1).to_bytes(2, "little") * 2  # the canvas, in which the frame of 30 x 20 does not fit
    with pytest.raises(OnnxplainError, match="30 x 20 pixels"):
        load_image(bytes(data), max_pixels=599)


def test_the_default_takes_what_cameras_make_and_no_more():
    assert 61e6 < MAX_PIXELS < Image.MAX_IMAGE_PIXELS  # so Pillow does not warn below it
    for size in ((8193, 8192), (10**6, 1000), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(OnnxplainError, match="pixels"):
            load_image(_header(*size))
    with pytest.raises(OnnxplainError, match="damaged"):  # it is tried, but there is nothing in it
        load_image(_header(8192, 8192))
    with pytest.raises(OnnxplainError, match=r"Pillow's own limit, twice PIL\.Image\.MAX_IMAGE_PIXELS"):
        load_image(_header(13400, 13400), max_pixels=10**9)


def test_a_file_without_end_is_not_read(tmp_path):
    """WebP and AVIF files are read whole when they are opened: here 2 TB of zeros, which take no room on the disk."""
    file = tmp_path / "endless.webp"
    file.write_bytes(_encoded("WEBP"))
    os.truncate(file, 2**41)
    with pytest.raises(OnnxplainError, match=r"endless\.webp has 2199023255552 bytes, more than"):
        load_image(file)
    with pytest.raises(OnnxplainError, match=r"the data given has .* bytes, more than"):
        load_image(bytes(2**24 + 9), max_pixels=1)


def test_the_explainer_has_a_limit(tmp_path):
    small = Explainer(tiny_artifact.build(tmp_path / "x.onnx"), device="cpu", threads=1, max_pixels=599)
    data = _encoded("PNG")
    for ask in (lambda: small.explain(data), lambda: small.explain_all(data), lambda: next(small.explain_many([data]))):
        with pytest.raises(OnnxplainError, match="more than the limit of 599"):
            ask()
    assert small.explain(PHOTO).image.size == (30, 20)  # the caller holds that one already
    with pytest.raises(OnnxplainError, match="`max_pixels` must be a whole number of at least 1, got 0"):
        Explainer(tmp_path / "x.onnx", max_pixels=0)


def test_the_command_line_has_the_limit(artifact, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # twice that is Pillow's limit
    assert_mistake("60 x 40 pixels, more than the limit of 2399", "explain", artifact, "cat.png", "--max-pixels", 2399)
    bare = ("--layout", "bare")  # Pillow's limit is for letters, too
    assert run("explain", artifact, "cat.png", "--max-pixels", 2400, *bare).exit_code == 0
    assert Image.MAX_IMAGE_PIXELS == 2400
    assert_mistake("--max-pixels", "explain", artifact, "cat.png", "--max-pixels", 0)
    assert str(MAX_PIXELS) in run("explain", "--help").stdout


# --- memory


MODES = ["1", "L", "P", "PA", "RGB", "CMYK", "YCbCr", "RGBA", "RGBa", "LA", "I", "F", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_images_are_converted_in_bands_without_a_seam(mode, monkeypatch):
    source = PHOTO.convert({"RGBa": "RGBA", "PA": "P", "I;16": "L"}.get(mode, mode)).convert(mode)
    if mode == "I;16":
        source = Image.fromarray(np.asarray(source) * np.uint16(257))
    whole = load_image(source)
    monkeypatch.setattr(geometry, "BAND", 90)  # three rows
    assert np.array_equal(load_image(source), whole)
    assert np.ptp(np.asarray(whole)) > 100


def test_maps_are_placed_and_drawn_in_bands_without_a_seam(tmp_path, monkeypatch):
    explainer = Explainer(tiny_artifact.build(tmp_path / "x.onnx"), device="cpu", threads=1)
    for method in ("rollout", "attnlrp"):
        whole, other = (explainer.explain(PHOTO, 3, method) for _ in range(2))
        drawn, peak, heatmap = np.asarray(whole.overlay()), whole.peak(), whole.heatmap
        monkeypatch.setattr(geometry, "BAND", 1)  # a row
        assert np.array_equal(other.overlay(), drawn) and other.peak() == peak
        assert np.array_equal(other.heatmap, heatmap)
        monkeypatch.undo()


def test_wide_images_take_no_wide_copies():
    """A step of the scaling to 8 bits takes 8 bytes for each value, several times; NumPy tells tracemalloc."""
    source = Image.fromarray(np.full((2000, 2000), 40000, np.uint16))
    load_image(PHOTO)
    tracemalloc.start()
    image = load_image(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert image.getpixel((0, 0)) == (156, 156, 156)
    assert peak < 2**20 * 8 * 5 + 2000 * 2000 * 2  # a band's, and not the 96 MB of the whole


def test_a_plateau_takes_no_list_of_its_pixels():
    levels = np.ones((8, 8), np.float32)
    levels[:, 0] = 0
    placement = Placement((2000, 2000), (8, 8), (0, 0), (8, 8))
    item = Explanation(
        levels, levels, 0, "x", 0.0, 0.5, [], "m", "rollout", {}, Image.new("RGB", (2000, 2000)), placement
    )
    tracemalloc.start()
    peak = item.peak()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak == (1000, (375 + 2000) // 2)  # from the centre of the input's second column on
    assert most < 2**20 * 40


# --- the byte budget


def _held(costs, budget, count):
    """How much the items cost that are taken and not given back yet, each time that one is asked for."""
    taken, held = [], []
    for number, _ in enumerate(prefetch(str, iter(costs), count, 2, lambda cost: taken.append(cost) or cost, budget)):
        assert taken[: number + 1] == costs[: number + 1]
        held.append(taken[number + 1 :])
    assert len(held) == len(costs)
    return held


def test_work_ahead_keeps_to_its_budget():
    for held in _held([40] * 9, 100, 5):
        assert len(held) <= 3  # two, and one that is known but not begun
    for held in _held([1000] * 5, 100, 5):
        assert len(held) <= 2  # one in any case
    assert len(_held([1] * 9, 100, 5)[0]) == 5  # as many as asked for
    assert [len(held) for held in _held([90, 1, 1, 90, 1], 100, 4)] == [3, 3, 2, 1, 0]


@pytest.mark.parametrize(("share", "runs"), [(0.5, [1] * 6), (2, [2] * 3), (100, [6])])
def test_batches_and_what_is_decoded_ahead_keep_to_the_budget(share, runs, tmp_path, monkeypatch):
    """Of pictures of 2400 bytes each, with a budget for some of them: the runs, and what is decoded before each."""
    explainer = Explainer(tiny_artifact.build(tmp_path / "x.onnx"), device="cpu", threads=1)
    for module in (pictures_module, pipeline):
        monkeypatch.setattr(module, "MEMORY_BUDGET", round(share * 30 * 20 * 4))
    sizes, decoded = [], []
    once, decode = explainer._artifact.run, pictures_module.decode

    def spy(pixels, *rest):
        sizes.append(len(pixels))
        assert len(decoded) <= sum(sizes) + max(1, share)
        return once(pixels, *rest)

    monkeypatch.setattr(pictures_module, "decode", lambda *each: decoded.append(each) or decode(*each))
    monkeypatch.setattr(explainer._artifact, "run", spy)
    assert len(list(explainer.explain_many([_encoded("PNG")] * 6, batch_size=6))) == 6
    assert sizes == runs and len(decoded) == 6
