"""What a picture may be given as, and what stands in for an explainer and its results elsewhere."""

import io
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explainer, OnnxplainError, load_image
from tests.helpers.tiny_artifact import build


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), "cpu")


@pytest.fixture(scope="module")
def array():
    return np.random.default_rng(0).integers(0, 256, [30, 40, 4], dtype=np.uint8)


def _png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


class Upload:
    """A stream that can be read and nothing else, as those of web frameworks."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def read(self, size=-1):
        return self._file.read(size)


def test_bytes_of_every_kind_are_one_image(explainer, array, tmp_path):
    data, path = _png(array[..., :3]), tmp_path / "a.png"
    path.write_bytes(data)
    expected = explainer.explain(path)
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), Upload(data), path.open("rb")):
        np.testing.assert_array_equal(explainer.explain(source).heatmap, expected.heatmap)
    assert list(explainer.explain_all(io.BytesIO(data))) == list(explainer.explain_all(path))


def test_streams_in_a_batch(explainer, array):
    data = [_png(np.roll(array[..., :3], shift, 1)) for shift in range(3)]
    reused = bytearray(data[0])

    def sources():
        yield io.BytesIO(data[1])
        yield reused
        reused[:] = bytes(len(reused))
        yield Upload(data[2])

    results = list(explainer.explain_many(sources(), batch_size=3))
    for result, expected in zip(results, (data[1], data[0], data[2]), strict=True):
        np.testing.assert_array_equal(result.heatmap, explainer.explain(expected).heatmap)


def test_a_stream_is_read_from_where_it_stands(array):
    data = _png(array[..., :3])
    file = io.BytesIO(b"header" + data)
    file.seek(6)
    np.testing.assert_array_equal(np.asarray(load_image(file)), array[..., :3])


def test_a_stream_that_gives_little_at_once(array):
    class Slow(Upload):
        def read(self, size=-1):
            return super().read(min(size, 100))

    np.testing.assert_array_equal(np.asarray(load_image(Slow(_png(array[..., :3])))), array[..., :3])


def test_a_stream_without_end_is_not_read_to_its_end():
    class Endless:
        def read(self, size):
            return bytes(size)

    with pytest.raises(OnnxplainError, match=r"the open file has .* bytes, more than an image of 100 pixels needs"):
        load_image(Endless(), max_pixels=100)


def test_a_stream_of_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with path.open() as file, pytest.raises(OnnxplainError, match=r"a\.txt gave str when it was read.*mode 'rb'"):
        load_image(file)


def test_a_closed_stream(explainer, array):
    file = io.BytesIO(_png(array))
    file.close()
    with pytest.raises(OnnxplainError, match="the open file cannot be read"):
        explainer.explain(file)


def test_arrays_are_what_they_are(array):
    grey, rgb = array[..., 0], array[..., :3]
    np.testing.assert_array_equal(np.asarray(load_image(grey)), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(np.asarray(load_image(rgb)), rgb)
    share = array[..., 3:] / 255
    over_white = array[..., :3] * share + 255 * (1 - share)
    assert np.abs(np.asarray(load_image(array)) - over_white).max() <= 1


@pytest.mark.parametrize("shape", [(30,), (30, 40, 1), (30, 40, 2), (1, 30, 40, 3), (0, 40), (0, 40, 3)])
def test_arrays_of_another_shape(shape):
    with pytest.raises(OnnxplainError, match=r"an image array must be uint8 .* got uint8 \["):
        load_image(np.zeros(shape, np.uint8))


def _explained(explainer, array):
    return explainer.explain(array).heatmap


def test_an_explainer_goes_to_another_process(explainer, array):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        heatmap = pool.submit(_explained, explainer, array[..., :3]).result()
    np.testing.assert_array_equal(heatmap, explainer.explain(array[..., :3]).heatmap)


def test_what_an_explainer_was_given_is_kept(tmp_path, monkeypatch):
    build(tmp_path / "tiny.onnx")
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Explainer(Path("tiny.onnx"), "cpu", threads=1, max_pixels=1199))
    monkeypatch.chdir("/")
    with pytest.raises(OnnxplainError, match="more than the limit of 1199"):
        pickle.loads(pickled).explain(_png(np.zeros([30, 40, 3], np.uint8)))
    (tmp_path / "tiny.onnx").unlink()
    with pytest.raises(OnnxplainError, match=r"there is no artifact .*tiny\.onnx"):
        pickle.loads(pickled)


def test_representations_are_one_line(explainer, array):
    result = explainer.explain(array, target=1)
    assert repr(result) == (
        f"<Explanation of 'tiger cat' (class 1, score {result.score:.3f}) by {result.method}: "
        "an image of 40 x 30 pixels, 2 x 3 patches>"
    )
    text = repr(explainer)
    assert "\n" not in text and "tiny.onnx" in text and "6 classes" in text and text.endswith("on cpu>")


def test_a_result_can_be_pickled(explainer, array):
    result = explainer.explain(array)
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.heatmap, result.heatmap)
    assert repr(again) == repr(result)
