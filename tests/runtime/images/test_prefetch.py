"""Work ahead of the run: what is taken when, in which thread, and what an error costs."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from onnxplain.commands.drawing import draw_ahead
from onnxplain.runtime import Explainer, Explanation, OnnxplainError, Outcome, RunError
from onnxplain.runtime.images import geometry
from onnxplain.runtime.images import inputs as pictures_module
from onnxplain.runtime.images.prefetch import prefetch
from tests.helpers import tiny_artifact


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "tiny.onnx"
    tiny_artifact.build(path)
    return Explainer(path, device="cpu", threads=1)


def _colours(seed, height=30, width=50):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _files(folder, count):
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(_colours(number)).save(path)
    return paths


def _workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("onnxplain")]


def _same(given, expected):
    assert given.target == expected.target and given.score == pytest.approx(expected.score, rel=1e-5)
    np.testing.assert_allclose(given.heatmap, expected.heatmap, rtol=1e-4, atol=1e-7)
    assert given.image.tobytes() == expected.image.tobytes()


def test_ahead_keeps_the_order_takes_items_in_the_callers_thread_and_no_more_than_asked():
    taken, threads = [], set()

    def items():
        for number in range(9):
            taken.append((number, threading.current_thread()))
            yield number

    def square(number):
        threads.add(threading.current_thread())
        time.sleep(0.01 * (number % 2))
        return number * number

    results = prefetch(square, items(), 3)
    assert not taken and not _workers()
    for number, result in enumerate(results):
        assert result == number * number
        assert len(taken) == min(number + 4, 9)
    assert {thread for _, thread in taken} == {threading.current_thread()}
    assert len(threads) == 1 and threading.current_thread() not in threads
    assert not _workers()


def test_ahead_works_while_the_caller_does():
    done = threading.Event()

    def function(number):
        if number == 1:
            done.set()
        return number

    results = prefetch(function, iter([0, 1]), 1)
    next(results)
    assert done.wait(10)  # nobody has asked for it yet


def test_ahead_gives_what_was_taken_before_an_error():
    def items():
        yield from (1, 2)
        raise KeyError("no more")

    results = prefetch(str, items(), 5)
    assert [next(results), next(results)] == ["1", "2"]
    with pytest.raises(KeyError, match="no more"):
        next(results)
    results = prefetch(lambda value: 1 // value, [1, 0, 1], 5)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not _workers()


@pytest.mark.parametrize("stop", ["close", "drop", "raise"])
def test_no_thread_is_left_when_the_consumer_stops_early(stop, explainer, tmp_path):
    paths = _files(tmp_path, 5)
    if stop == "close":
        results = prefetch(str, iter(range(100)), 4)
        next(results)
        assert _workers()
        results.close()
    elif stop == "drop":
        results = explainer.explain_many(paths, batch_size=2)
        next(results)
        assert _workers()
        del results
    else:
        results = explainer.explain_many([tmp_path / "none.png", *paths], batch_size=2)
        with pytest.raises(OnnxplainError, match=r"no image file .*none\.png"):
            next(results)
        assert _workers()
        del results
    assert not _workers()


def test_no_thread_is_left_when_the_consumer_stops_at_the_last(explainer, tmp_path):
    results = explainer.explain_many(_files(tmp_path, 3), batch_size=2)
    assert [type(next(results)) for _ in range(3)] == [Explanation] * 3
    deadline = time.monotonic() + 10
    while _workers():  # it ends by itself, though nobody asks whether there are more pictures
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_images_are_made_ready_beside_the_run(explainer, tmp_path, monkeypatch):
    """The run of the first batch waits for a picture of the second: that never ends if one follows the other."""
    paths = _files(tmp_path, 4)
    singles = [explainer.explain(path) for path in paths]
    decoded, threads, original = threading.Event(), [], pictures_module.decode

    def decode(image, source):
        threads.append(threading.current_thread())
        picture = original(image, source)
        if source == paths[3]:
            decoded.set()
        return picture

    run = explainer._artifact.run
    waited = []

    def waiting(*arguments):
        waited.append(decoded.wait(10))
        return run(*arguments)

    monkeypatch.setattr(pictures_module, "decode", decode)
    monkeypatch.setattr(explainer._artifact, "run", waiting)
    for given, expected in zip(explainer.explain_many(paths, batch_size=2), singles, strict=True):
        _same(given, expected)
    assert waited == [True, True]
    assert len(threads) == 4 and threading.current_thread() not in threads


def test_what_the_user_changes_after_giving_it_is_explained_as_it_was_given(explainer):
    """A camera loop may fill one array, or one PIL image, again and again."""
    expected = [explainer.explain(_colours(seed)) for seed in range(5)]
    frame, canvas = np.empty((30, 50, 3), np.uint8), Image.new("RGB", (50, 30))

    def arrays():
        for seed in range(5):
            frame[:] = _colours(seed)
            yield frame

    def images():
        for seed in range(5):
            canvas.paste(Image.fromarray(_colours(seed)))
            yield canvas

    for source in (arrays, images):
        for given, single in zip(explainer.explain_many(source(), batch_size=2), expected, strict=True):
            _same(given, single)


def _with_bad_ones(tmp_path):
    paths = _files(tmp_path, 6)
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[4].unlink()
    return paths


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_bad_image_costs_only_itself(batch_size, explainer, tmp_path):
    paths = _with_bad_ones(tmp_path)
    answers = dict(zip(paths, explainer.explain_many(paths, batch_size=batch_size).outcomes(), strict=True))
    assert list(answers) == paths
    for number, path in enumerate(paths):
        if number in (1, 4):
            assert path.name in str(answers[path].error)
        else:
            _same(answers[path].value, explainer.explain(path))


def test_bad_arrays_raise_in_their_place_and_the_others_follow(explainer):
    results = explainer.explain_many([_colours(0), _colours(1)[:, :, :2], None, _colours(2)], batch_size=4)
    _same(next(results), explainer.explain(_colours(0)))
    for message in (r"\[30, 50, 2\]", "got NoneType"):
        with pytest.raises(OnnxplainError, match=message):
            next(results)
    _same(next(results), explainer.explain(_colours(2)))
    assert list(results) == []


def test_a_run_that_fails_costs_its_batch_only(explainer, tmp_path, monkeypatch):
    paths, run = _files(tmp_path, 6), explainer._artifact.run
    numbers = iter(range(100))

    def second_fails(*arguments):
        if next(numbers) == 1:
            raise RunError("no memory")
        return run(*arguments)

    monkeypatch.setattr(explainer._artifact, "run", second_fails)
    outcomes = explainer.explain_many(paths, batch_size=2).outcomes()
    assert [isinstance(outcome.error, RunError) for outcome in outcomes] == [False, False, True, True, False, False]


def test_a_run_beyond_the_shared_one_costs_its_image_only(explainer, tmp_path, monkeypatch):
    paths, run = _files(tmp_path, 3), explainer._artifact.run
    numbers = iter(range(100))

    def third_fails(*arguments):  # the first is the shared one, the second and third are of the pictures
        if next(numbers) == 2:
            raise RunError("no memory")
        return run(*arguments)

    monkeypatch.setattr(explainer._artifact, "run", third_fails)
    results = explainer.explain_many(paths, method="integrated_gradients", steps=4)
    outcomes = results.outcomes()
    assert [isinstance(outcome.error, RunError) for outcome in outcomes] == [False, True, False]


def test_an_error_of_the_users_generator_comes_after_the_images_before_it(explainer):
    def source():
        yield from (_colours(0), _colours(1), _colours(2))
        raise RuntimeError("camera is gone")

    results = explainer.explain_many(source(), batch_size=2)
    assert len([next(results) for _ in range(3)]) == 3
    with pytest.raises(RuntimeError, match="camera is gone"):
        next(results)


def test_drawing_is_one_image_behind_and_skips_errors(tmp_path):
    drawings = []

    def draw(path, answer):
        drawings.append(path)
        return [path.with_suffix(".map.png")]

    def outcomes():
        for number in range(4):
            assert len(drawings) >= number - 1  # the generator is asked for one picture ahead at most
            outcome = Outcome(error=OnnxplainError("bad")) if number == 2 else Outcome(number)
            yield tmp_path / f"{number}.png", outcome

    rows = [(path.name, outcome.error or outcome.value) for path, outcome in draw_ahead(draw, outcomes())]
    assert [name for name, _ in rows] == [f"{n}.png" for n in range(4)] and str(rows[2][1]) == "bad"
    assert [rows[n][1] for n in (0, 1, 3)] == [(n, [tmp_path / f"{n}.map.png"]) for n in (0, 1, 3)]
    assert [path.name for path in drawings] == ["0.png", "1.png", "3.png"]

    def full(path, answer):
        files = draw(path, answer)
        if answer == 1:
            raise OSError(28, "no space left", "1.map.png")
        return files

    drawings.clear()
    drawn = {path.name: outcome for path, outcome in draw_ahead(full, outcomes())}
    assert str(drawn.pop("1.png").error).endswith("1.png: cannot write 1.map.png: no space left")
    assert [name for name, outcome in drawn.items() if outcome.error is None] == ["0.png", "3.png"]

    def wrong(path, answer):
        raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        list(draw_ahead(wrong, outcomes()))
    assert not _workers()


def test_enlarging_in_place_gives_the_formula(monkeypatch):
    """Against the definition of bilinear interpolation, pixel by pixel in float64; the map given is left as it is."""
    rng = np.random.default_rng(0)
    heatmap = rng.normal(size=(4, 6)).astype(np.float32)
    before = heatmap.copy()
    large = geometry.resize(heatmap, (9, 13))
    assert large.dtype == np.float32 and np.array_equal(heatmap, before)
    for y in range(9):
        for x in range(13):
            v, u = np.clip((y + 0.5) * 4 / 9 - 0.5, 0, 3), np.clip((x + 0.5) * 6 / 13 - 0.5, 0, 5)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, 3), min(left + 1, 5)
            dv, du = v - top, u - left
            rows = [heatmap[row, left] * (1 - du) + heatmap[row, right] * du for row in (top, bottom)]
            assert large[y, x] == pytest.approx(rows[0] * (1 - dv) + rows[1] * dv, abs=1e-6)
