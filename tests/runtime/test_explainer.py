"""The Explainer end to end, on a small hand-made artifact that honours the contract."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from onnxplain.contract.outputs import ALWAYS, OUTPUTS, PASSES
from onnxplain.runtime import Explainer, OnnxplainError, load_image
from onnxplain.runtime.images.preprocessing import normalize
from tests.helpers.command_line import random_image
from tests.helpers.spy import Spy, assert_same
from tests.helpers.tiny_artifact import GRID, LABELS, LAYERS, SIZE, TOKENS, build


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("artifact") / "tiny.onnx")


@pytest.fixture(scope="module")
def explainer(artifact):
    return Explainer(artifact, device="cpu", threads=1)


@pytest.fixture
def spied(artifact):
    explainer = Explainer(artifact, device="cpu", threads=1)
    explainer._artifact._session = Spy(explainer._artifact._session)
    return explainer, explainer._artifact._session.runs


def test_explanation(explainer):
    picture = random_image(0)
    result = explainer.explain(picture)
    assert result.method == "transformer_attribution"
    assert result.heatmap.shape == (40, 60) and result.heatmap.dtype == np.float32
    assert result.tokens.shape == GRID and result.tokens.dtype == np.float32
    assert np.ptp(result.tokens) > 0
    probabilities = [probability for _, _, probability in result.predictions]
    assert len(probabilities) == 5 and probabilities == sorted(probabilities, reverse=True) and sum(probabilities) < 1
    assert result.predictions[0][:2] == (result.target, result.label)
    assert result.label == LABELS[result.target]
    logits = explainer.tensors(picture, passes=[])["logits"][0]
    assert result.target == logits.argmax() and result.score == logits.max()
    np.testing.assert_allclose(probabilities, np.sort(np.exp(logits) / np.exp(logits).sum())[:0:-1], rtol=1e-5)


def test_map_is_the_method_of_the_tensors(explainer):
    picture = random_image(1)
    tensors = explainer.tensors(picture, target=[2, 4])
    for k, target in enumerate([2, 4]):
        row = np.eye(TOKENS)[0]
        for layer in reversed(range(LAYERS)):
            product = tensors["attention_gradient"][0, k, layer] * tensors["relevance"][0, k, layer]
            row = row + row @ np.maximum(product, 0).mean(0)
        np.testing.assert_allclose(explainer.explain(picture, target=target).tokens.ravel(), row[1:], rtol=1e-5)


def test_sigmoid_probabilities(tmp_path):
    explainer = Explainer(build(tmp_path / "sigmoid.onnx", activation="sigmoid"), device="cpu")
    result = explainer.explain(random_image(0))
    assert result.predictions[0][2] == pytest.approx(1 / (1 + np.exp(-result.score)), rel=1e-6)


def test_targets_and_maps_depend_on_class_and_image(explainer):
    picture = random_image(0)
    results = explainer.explain(picture, target=[0, 4, -1, -2, "Dog"])
    assert [item.target for item in results][:2] == [0, 4] and results[4].target == 4
    assert [results[2].target, results[3].target] == [index for index, _, _ in results[0].predictions[:2]]
    assert not np.allclose(results[0].tokens, results[1].tokens)
    assert not np.allclose(results[0].tokens, explainer.explain(random_image(1), target=0).tokens)
    for target, result in zip([0, 4, -1, -2, "Dog"], results, strict=True):
        assert_same(result, explainer.explain(picture, target=target))
    assert isinstance(explainer.explain(picture, target=(3,)), list)


@pytest.mark.parametrize(
    ("target", "index"),
    [
        ("tabby", 0),
        ("TABBY  cat", 0),
        ("tabby, tabby cat", 0),
        ("Tiger Cat", 1),
        ("whooping crane", 3),
        ("5", 5),
        ("-6", None),
        (np.int64(2), 2),
    ],
)
def test_target_forms(explainer, target, index):
    result = explainer.explain(random_image(0), target=target)
    assert result.target == (
        index if index is not None else explainer.tensors(random_image(0), passes=[])["logits"].argmin()
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (6, "target 6 is out of range; valid are the classes 0 to 5 and the ranks -1 to -6"),
        (-7, "target -7 is out of range"),
        ("99", "target 99 is out of range"),
        ("taby", "there is no label 'taby' among the 6 classes; did you mean 'tabby'"),
        ("crane", r"'crane' is ambiguous: it names the classes 2 \(crane\), 5 \(crane\)"),
        ("zzz", r"no label 'zzz' among the 6 classes; valid are the classes 0 to 5 and the ranks -1 to -6$"),
        ("", "there is no label"),
        ([], "list of targets is empty"),
        (1.5, "a target must be .* got 1.5"),
        (True, "a target must be .* got True"),
        ([0, 17], "target 17 is out of range"),
    ],
)
def test_bad_targets(explainer, target, message):
    with pytest.raises(OnnxplainError, match=message) as error:
        explainer.explain(random_image(0), target=target)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "parameters", "fetched"),
    [
        ("rollout", {}, ["attention_mean"]),
        ("grad_rollout", {"head_fusion": "max"}, ["gradient_attention_max"]),
        ("gmar", {"norm": "l2"}, ["attention_by_gradient_l2"]),
        ("transformer_attribution", {}, ["gradient_relevance_positive"]),
        ("attnlrp", {}, ["pixel_attnlrp"]),
        ("vit_reciprocam", {}, ["reciprocam"]),
    ],
)
def test_only_what_is_needed_runs(spied, method, parameters, fetched):
    explainer, runs = spied
    explainer.explain(random_image(0), target=[0, 1, 2], method=method, **parameters)
    [(outputs, feeds, _)] = runs
    assert outputs == [*ALWAYS, *fetched]
    assert {name for name in feeds if feeds[name].ndim == 0 and feeds[name]} == {OUTPUTS[fetched[0]].flag}
    assert len(feeds) == 2 + sum(not item.pool for item in OUTPUTS.values())
    assert feeds["target"].dtype == np.int64 and feeds["target"].tolist() == [[0, 1, 2]]


def test_batches_equal_singles_in_order_and_are_lazy(spied):
    explainer, runs = spied
    pictures = [random_image(seed, 30 + seed, 50 - seed) for seed in range(7)]
    singles = [explainer.explain(picture, target="tabby") for picture in pictures]
    runs.clear()
    loaded = []

    def source():
        for picture in pictures:
            loaded.append(picture)
            yield picture

    results = explainer.explain_many(source(), target="tabby", batch_size=3)
    assert not loaded and not runs
    first = next(results)
    assert len(loaded) == 6 and len(runs) == 1  # one batch more than the one at hand
    for given, expected in zip([first, *results], singles, strict=True):
        assert_same(given, expected)
    assert [len(feeds["pixels"]) for _, feeds, _ in runs] == [3, 3, 1]


def test_lists_of_images_and_targets(explainer):
    pictures = [random_image(0), np.asarray(random_image(1))]
    results = list(explainer.explain_many(pictures, target=[-1, 2]))
    assert [[item.target for item in row][1] for row in results] == [2, 2]
    for picture, row in zip(pictures, results, strict=True):
        for given, expected in zip(row, explainer.explain(picture, target=[-1, 2]), strict=True):
            assert_same(given, expected)
    assert list(explainer.explain_many([])) == []


@pytest.mark.parametrize("several", [(1, 2), range(1, 3), np.arange(1, 3), np.array([1, 2], np.uint8)])
def test_several_targets_may_be_a_tuple_a_range_or_an_array(explainer, several):
    expected = explainer.explain(random_image(0), target=[1, 2])
    found = explainer.explain(random_image(0), target=several)
    assert [item.target for item in found] == [1, 2]
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    assert explainer.tensors(random_image(0), several, ["gradient"])["class_index"].tolist() == [[1, 2]]


@pytest.mark.parametrize("several", [range(0), np.arange(0), np.array([0.5]), np.arange(2)[None], np.arange(7)])
def test_several_targets_that_are_none(explainer, several):
    with pytest.raises(OnnxplainError, match="target"):
        explainer.explain(random_image(0), target=several)


def test_a_bad_image_does_not_cost_those_before_it(explainer, tmp_path):
    results = explainer.explain_many(
        [random_image(0), random_image(1), tmp_path / "none.png", random_image(2)], batch_size=8
    )
    assert_same(next(results), explainer.explain(random_image(0)))
    assert_same(next(results), explainer.explain(random_image(1)))
    with pytest.raises(OnnxplainError, match=r"none\.png"):
        next(results)


def test_bad_questions_are_refused_before_any_image_is_taken(explainer):
    def images():
        pytest.fail("taken")
        yield

    for arguments, message in (
        ({"target": 77}, "target 77 is out of range"),
        ({"method": "magic"}, "there is no method 'magic'"),
        ({"start_layer": 9}, "`start_layer` must be"),
        ({"colour": 1}, "has no parameter `colour`"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, or None to choose it, got 0"),
        ({"batch_size": "2"}, "`batch_size` must be at least 1, or None to choose it, got '2'"),
    ):
        with pytest.raises(OnnxplainError, match=message):
            explainer.explain_many(images(), **arguments)
    with pytest.raises(OnnxplainError, match=r"an image must be .* got NoneType"):
        explainer.explain(None)


def test_method_parameters_reach_the_method(explainer):
    plain = explainer.explain(random_image(0), method="rollout")
    for parameters in ({"head_fusion": "max"}, {"discard_ratio": 0.8}, {"start_layer": 1}):
        assert not np.allclose(plain.tokens, explainer.explain(random_image(0), method="rollout", **parameters).tokens)


def test_pixels(explainer):
    settings = explainer.metadata.preprocessing
    pictures = [random_image(seed, SIZE[1], SIZE[0]) for seed in range(3)]
    pixels = np.stack([normalize(np.asarray(picture), settings) for picture in pictures])
    results = explainer.explain_pixels(pixels, target=2, method="grad_rollout", batch_size=2)
    assert len(results) == 3
    for picture, result in zip(pictures, results, strict=True):
        assert result.heatmap.shape == SIZE and result.target == 2
        assert np.array_equal(result.image, picture)
    assert [len(row) for row in explainer.explain_pixels(pixels, target=[0, 1])] == [2, 2, 2]
    assert explainer.explain_pixels(pixels[:0]) == []


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((1, 3, 16, 16), np.float32), r"\[batch, 3, 16, 24\], got float32 \[1, 3, 16, 16\]"),
        (np.zeros((3, 16, 24), np.float32), r"got float32 \[3, 16, 24\]"),
        (np.zeros((1, 3, 16, 24)), "got float64"),
        (np.full((1, 3, 16, 24), np.nan, np.float32), "must be finite"),
        ([[1.0]], "got list"),
    ],
)
def test_bad_pixels(explainer, pixels, message):
    with pytest.raises(OnnxplainError, match=message):
        explainer.explain_pixels(pixels)


def test_tensors(explainer):
    tensors = explainer.tensors(random_image(0), target=[4, -1])
    names = [*ALWAYS, *(item.output for item in PASSES.values())]
    assert {name: value.shape for name, value in tensors.items()} == {
        name: explainer.metadata.full_shape(name, 1, 2) for name in names
    }
    assert set(explainer.tensors(random_image(0), passes=["gradient"])) == {*ALWAYS, "attention_gradient"}
    with pytest.raises(OnnxplainError, match="has no pass pixels; it has: attention, gradient, relevance"):
        explainer.tensors(random_image(0), passes=["pixels"])


def test_artifact_with_fewer_passes(tmp_path):
    explainer = Explainer(build(tmp_path / "small.onnx", passes=("attention", "gradient")), device="cpu")
    assert explainer.explain(random_image(0)).method == "grad_rollout"
    with pytest.raises(
        OnnxplainError,
        match=r"needs the pass relevance, this artifact has: attention, gradient; "
        r"export it again with `passes` attention,gradient,relevance",
    ):
        explainer.explain(random_image(0), method="transformer_attribution")
    explainer = Explainer(build(tmp_path / "attention.onnx", passes=("attention",)), device="cpu")
    assert explainer.explain(random_image(0)).method == "rollout"


def test_threads_agree(explainer):
    pictures = [random_image(seed) for seed in range(12)]
    expected = [explainer.explain(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for given, single in zip(pool.map(explainer.explain, pictures), expected, strict=True):
            assert_same(given, single)


def test_image_kinds_agree(explainer, tmp_path):
    file = tmp_path / "a.png"
    random_image(0).save(file)
    expected = explainer.explain(random_image(0))
    for image in (file, str(file), file.read_bytes(), np.asarray(random_image(0)), load_image(file)):
        assert_same(explainer.explain(image), expected)


@pytest.mark.parametrize("arguments", [{"trust": "no"}, {"trust": 1}, {"cache": "folder"}])
def test_switches_are_true_or_false(arguments, artifact):
    """Any text is true to Python, "no" as well."""
    (name,) = arguments
    with pytest.raises(OnnxplainError, match=f"`{name}` must be True or False, got"):
        Explainer(artifact, **arguments)
