"""One image or many: what each call takes and gives, and errors that a caller can tell apart."""

import io
from pathlib import Path

import numpy as np
import pytest

import onnxplain
from onnxplain.contract.errors import ImageFormatError
from onnxplain.runtime import Explainer, Explanation, OnnxplainError, Outcome
from tests.helpers.messages import message_of
from tests.helpers.tiny_artifact import build

IMAGES = [np.random.default_rng(seed).integers(0, 256, (30, 50, 3), dtype=np.uint8) for seed in range(3)]


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), "cpu", threads=1)


@pytest.mark.parametrize("name", ["explain", "explain_all"])
@pytest.mark.parametrize("images", [IMAGES, tuple(IMAGES), iter(IMAGES), [], ["a.png"]], ids=range(5))
def test_one_image_is_not_several(name, images, explainer):
    message = message_of(getattr(explainer, name), images)
    assert message == f"{name} takes one image, got {type(images).__name__}; for several images use {name}_many"


@pytest.mark.parametrize("name", ["explain", "explain_all"])
@pytest.mark.parametrize("image", [IMAGES[0], "a.png", Path("a.png"), b"x", io.BytesIO(b"x"), None], ids=range(6))
def test_several_images_are_not_one(name, image, explainer):
    message = message_of(getattr(explainer, f"{name}_many"), image)
    assert message.startswith(f"{name}_many takes an iterable of images, got {type(image).__name__}; ")
    assert message.endswith(f"for a single image use {name}")


def test_many_give_what_single_calls_give(explainer):
    for target in (2, [2, -1]):
        for image, given in zip(IMAGES, explainer.explain_many(IMAGES, target, "rollout"), strict=True):
            expected = explainer.explain(image, target, "rollout")
            assert type(given) is type(expected)
            for one, other in zip(np.ravel(given), np.ravel(expected), strict=True):
                np.testing.assert_allclose(one.heatmap, other.heatmap, rtol=1e-5)
        methods = ["gmar", "rollout"]
        for image, given in zip(IMAGES, explainer.explain_all_many(IMAGES, target, methods=methods), strict=True):
            expected = explainer.explain_all(image, target, methods=methods)
            assert list(given) == list(expected) == methods
            for name in methods:
                for one, other in zip(np.ravel(given[name]), np.ravel(expected[name]), strict=True):
                    np.testing.assert_allclose(one.heatmap, other.heatmap, rtol=1e-5)


def test_an_iterator_goes_on_after_an_error(explainer):
    """By next(), by a loop over outcomes, and by both in turn, which share one stream."""
    images = [IMAGES[0], "none.png", IMAGES[1], b"", IMAGES[2]]
    results = explainer.explain_many(images, 0, batch_size=2)
    assert isinstance(next(results), Explanation)
    with pytest.raises(onnxplain.ImageError, match=r"there is no image file none\.png"):
        next(results)
    rest = list(results.outcomes())
    assert [outcome.error is None for outcome in rest] == [True, False, True]
    assert isinstance(rest[0].value, Explanation)
    with pytest.raises(onnxplain.ImageError, match="the data given is empty"):
        _ = rest[1].value
    with pytest.raises(StopIteration):
        next(results)


def test_outcomes():
    def positive(number):
        if number < 0:
            raise OnnxplainError("negative")
        return number

    assert Outcome.of(positive, 3).then(lambda number: number + 1).value == 4
    failed = Outcome.of(positive, -3)
    assert str(failed.error) == "negative" and failed.then(pytest.fail).error is failed.error
    assert Outcome(3).then(lambda number: positive(-number)).error is not None
    with pytest.raises(ZeroDivisionError):  # a fault of the program is no outcome
        Outcome(0).then(lambda number: 1 / number)


def test_kinds_of_errors(explainer, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(build(tmp_path / "x.onnx").read_bytes()[:-70])
    for call, kind in (
        (lambda: Explainer(tmp_path / "none.onnx"), onnxplain.ArtifactError),
        (lambda: Explainer(damaged), onnxplain.ArtifactError),
        (lambda: Explainer(tmp_path / "x.onnx", "abacus"), OnnxplainError),
        (lambda: explainer.explain(b"no image"), ImageFormatError),
        (lambda: explainer.explain(np.zeros((1, 1, 2), np.uint8)), onnxplain.ImageError),
        (lambda: explainer.explain(np.zeros((1, 50_000_000), np.uint8)), onnxplain.ImageError),
        (lambda: explainer.explain_pixels(np.zeros((1, 3, 1, 1), np.float32)), onnxplain.ImageError),
        (lambda: explainer.explain(IMAGES[0], "zebra"), onnxplain.TargetError),
        (lambda: explainer.explain(IMAGES[0], 77), onnxplain.TargetError),
        (lambda: explainer.explain(IMAGES[0], []), onnxplain.TargetError),
        (lambda: explainer.explain(IMAGES[0], method="magic"), onnxplain.MethodError),
        (lambda: explainer.explain(IMAGES[0], method="gmar", norm="l3"), onnxplain.MethodError),
        (lambda: explainer.explain(IMAGES[0], method="gmar", colour=1), onnxplain.MethodError),
        (lambda: explainer.explain_all(IMAGES[0], methods=[]), onnxplain.MethodError),
    ):
        with pytest.raises(OnnxplainError) as caught:
            call()
        assert type(caught.value) is kind, caught.value

    def fails(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(explainer._artifact._session, "run", fails)
    with pytest.raises(onnxplain.RunError, match="onnxruntime failed on 1 images"):
        explainer.explain(IMAGES[0])


def test_errors_that_are_kept_hold_neither_threads_nor_themselves(explainer, tmp_path):
    """Somebody collects the errors of many images: each keeps its frames alive, and what they refer to."""
    import gc
    import threading
    import weakref

    results = explainer.explain_many([tmp_path / "none.png", *IMAGES], batch_size=2)
    kept = []
    try:
        next(results)
    except OnnxplainError as error:
        kept.append(error.with_traceback(error.__traceback__.tb_next))  # without this test's own frame
    watched = weakref.ref(kept[0])
    gc.disable()
    try:
        del results
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxplain")]
        kept.clear()
        assert watched() is None
    finally:
        gc.enable()
