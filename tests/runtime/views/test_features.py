"""The principal components of patches: against scikit-learn in float64, their signs, and what has no components."""

import numpy as np
import pytest
from PIL import Image

from onnxplain.runtime import Explainer, ImageError, OnnxplainError, Placement, RunError
from onnxplain.runtime.views.features import PatchFeatures, principal_colours
from tests.helpers.command_line import random_image
from tests.helpers.plain_artifact import build_plain
from tests.helpers.tiny_artifact import GRID, TOKENS, WIDTH, build
from tests.reference import views as slow


def of_values(values):
    """The components of patches [images, h, w, width]."""
    picture, placement = Image.new("RGB", (8, 8)), Placement((8, 8), (8, 8), (0, 0), (8, 8))
    images = [PatchFeatures(one.astype(np.float32), picture, placement, picture.size) for one in values]
    return principal_colours(images, "made")


def with_object(count=3, grid=(7, 9), width=12, seed=0):
    """Random patches, and in the middle of each image some that are alike."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, *grid, width))
    values[:, 2:5, 3:6] += 6 * rng.normal(size=width)
    values[:, 2:5, 3:6] += 2 * rng.normal(size=(3, 3, width))
    return values


@pytest.mark.parametrize(
    "shape", [{}, {"count": 1}, {"width": 3}, {"width": 400}, {"count": 7, "grid": (5, 6)}], ids=str
)
@pytest.mark.parametrize("seed", range(3))
def test_against_scikit_learn(shape, seed):
    values = with_object(**shape, seed=seed).astype(np.float32)
    found = of_values(values)
    count, *grid, width = values.shape
    first, foreground, colours = slow.colours(values.reshape(count, -1, width).astype(np.float64), tuple(grid))
    assert np.abs(found.first - first).max() <= 1e-5 * np.abs(first).max()
    assert np.array_equal(found.foreground, foreground)
    assert np.abs(found.colours - colours).max() <= 1e-5


def test_the_object_is_the_foreground():
    """Its patches are fewer, and not at the border; the features' own sign does not matter."""
    values = with_object()
    for given in (values, -values, values + 100):
        found = of_values(given)
        assert found.foreground[:, 2:5, 3:6].all() and found.foreground.mean() < 0.5
        assert found.first[:, 2:5, 3:6].min() > found.first[:, 0].max()


def test_images_are_taken_together():
    """Like patches have like colours in all images, whatever their order; alone they have others."""
    values = with_object()
    values[1] = values[0]
    together, turned, alone = of_values(values), of_values(values[::-1]), of_values(values[:1])
    assert np.array_equal(together.colours[0], together.colours[1])
    np.testing.assert_allclose(together.colours, turned.colours[::-1], atol=1e-6)
    assert np.abs(together.colours[0] - alone.colours[0]).max() > 0.01
    assert together.colours[together.foreground].min() == 0 and (together.colours.max((0, 1, 2)) == 1).all()


@pytest.mark.parametrize("number", [0.0, 1.0, 1e-20, 3.3e7])
def test_equal_patches_have_no_foreground(number):
    """Rounding is not made into colours: these patches differ, if at all, by their last bits."""
    values = np.full((2, 4, 4, 8), number, np.float32)
    values[0, 1, 1] = np.nextafter(np.float32(number), np.float32(np.inf))
    for given in (np.full_like(values, number), values) if number > 1e-10 else (np.full_like(values, number),):
        found = of_values(given)
        assert not found.foreground.any() and not found.first.any() and not found.colours.any()


def test_a_foreground_of_few_patches():
    """Two patches differ along one axis alone, three along two; the other colours are 0, not rounding made visible."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 3):
        values = np.zeros((1, 5, 5, 8))
        values[0, 2, 1 : 1 + count] = 50 + rng.normal(size=(count, 8))
        found = of_values(values)
        assert found.foreground.sum() == count
        assert (found.colours[0, 2, 1 : 1 + count].max(0) > 0).tolist() == [count > 1, count > 2, False]


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (2, 2), (2, 7)])
def test_grids_that_are_all_border(grid):
    found = of_values(np.random.default_rng(0).normal(size=(2, *grid, 5)))
    assert found.colours.shape == (2, *grid, 3) and found.foreground.any() and not found.foreground.all()
    assert np.isfinite(found.colours).all()


def test_narrow_features():
    """Fewer numbers than colours."""
    found = of_values(with_object(width=2))
    assert found.colours[..., :2].any() and not found.colours[..., 2].any()


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    return Explainer(build(tmp_path_factory.mktemp("artifact") / "tiny.onnx"), "cpu", max_pixels=4000)


def test_of_an_artifact(explainer):
    pictures = [random_image(0), random_image(1, 40, 50), random_image(2)]
    found = explainer.features(pictures)
    assert repr(found).startswith(f"<Features of 3 images: 2 x 3 patches of {WIDTH} numbers, ")
    assert found.model == "tiny" and [image.size for image in found.images] == [(60, 40), (40, 50), (60, 40)]
    for number, picture in enumerate(pictures):
        tensor = explainer.tensors(picture, passes=["features"])["features"]
        assert tensor.shape == (1, TOKENS, WIDTH)
        np.testing.assert_allclose(found.values[number], tensor[0, 1:].reshape(*GRID, WIDTH), rtol=1e-6)
    for again in (explainer.features(iter(pictures)), explainer.features(pictures, batch_size=1)):
        np.testing.assert_allclose(again.colours, found.colours, atol=1e-5)
    (only,) = explainer.features(pictures[0]).values
    np.testing.assert_allclose(only, found.values[0], rtol=1e-6)


def test_of_large_images_little_is_kept(tmp_path):
    explainer = Explainer(build(tmp_path / "tiny.onnx"), "cpu")
    large, small = Image.new("RGB", (3000, 1000)), Image.new("RGB", (448, 100))
    found = explainer.features([large, small])
    assert [image.size for image in found.images] == [(448, 149), (448, 100)]
    assert [placement.original for placement in found.placements] == [(149, 448), (100, 448)]


def test_mistakes(explainer, tmp_path):
    with pytest.raises(ImageError, match="the list of images is empty"):
        explainer.features([])
    with pytest.raises(ImageError, match="takes an image or an iterable of images, got int"):
        explainer.features(3)
    with pytest.raises(ImageError, match="there is no image"):
        explainer.features([random_image(0), "nowhere.png"])
    random_image(0, 100, 100).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match="4000"):
        explainer.features(tmp_path / "large.png")
    with pytest.raises(OnnxplainError, match="`batch_size` must be at least 1"):
        explainer.features(random_image(0), batch_size=0)
    found = explainer.features([random_image(0), random_image(1)])
    for number in (2, -1, True, "0"):
        with pytest.raises(OnnxplainError, match="`number` must be an integer from 0 to 1, or None for all, got"):
            found.figure(number)
    small = Explainer(build(tmp_path / "small.onnx", passes=("attention", "gradient")), "cpu")
    with pytest.raises(
        OnnxplainError, match=r"no pass features; it has: attention, gradient; .* `passes` attention,gradient,features"
    ):
        small.features(random_image(0))
    plain = Explainer(build_plain(tmp_path / "plain.onnx"), "cpu")
    with pytest.raises(OnnxplainError, match="this artifact has heatmaps only, and so no features"):
        plain.features(random_image(0))


def test_features_that_are_no_numbers(explainer, monkeypatch):
    run = explainer.artifact.run

    def damaged(artifact, *given):
        return run(*given) | {"features": np.full((1, TOKENS, WIDTH), np.nan, np.float32)}

    monkeypatch.setattr(type(explainer.artifact), "run", damaged)
    with pytest.raises(RunError, match="the features of patches are not finite"):
        explainer.features(random_image(0))
