"""Values, intervals and comparisons of methods: against hand computations and a slow bootstrap."""

import numpy as np
import pytest

from onnxplain.evaluation.statistics import summarize
from tests.helpers.evaluations import ROWS, only, realistic, results_of, row

SCORE = {"score": row("score", "higher")}


def _one_metric(values, seed=0, metric="score"):
    """Results with one class in each image, from values by method."""
    images = [
        {"measured": [(0, name, metric, (value,)) for name, value in zip(values, found, strict=True)]}
        for found in zip(*values.values(), strict=True)
    ]
    return results_of(images, run={"seed": seed})


def test_values_are_those_over_maps_and_ranks_follow_what_is_better():
    images = [
        {"measured": [(0, "a", "score", (1.0,)), (3, "a", "score", (2.0,)), (0, "b", "score", (4.0,))], "right": True},
        {"measured": [(0, "a", "score", (6.0,)), (0, "b", "score", (0.0,))], "right": False},
    ]
    found = summarize(results_of(images), SCORE)
    a, b = (found.scores["all", "score", name] for name in "ab")
    assert (a.value, a.images, a.maps, a.rank) == (3.0, 2, 3, 1)
    assert (b.value, b.images, b.maps, b.rank) == (2.0, 2, 2, 2)
    assert found.images == {"all": 2, "right": 1}
    right = found.scores["right", "score", "a"]
    assert (right.value, right.images, right.maps, right.rank) == (1.5, 1, 2, 2)
    assert np.isnan([right.low, right.high]).all()  # of one image nobody knows how much they differ
    lower = summarize(results_of(images), {"score": row("score", "lower")})
    assert [lower.scores["all", "score", name].rank for name in "ab"] == [2, 1]
    assert lower.best("all", "score") == "b"


def test_the_value_of_many_maps_is_made_of_the_means_of_the_parts():
    ratio = {"score": row("score", "higher", combine=lambda means: means[..., 0] / means[..., 1])}
    images = [{"measured": [(0, "a", "score", parts)]} for parts in ((1.0, 2.0), (1.0, 4.0), (4.0, 4.0))]
    found = summarize(results_of(images), ratio).scores["all", "score", "a"]
    assert found.value == 0.6 and found.means == (2.0, 10 / 3)


def test_intervals_are_those_of_a_slow_bootstrap_over_images():
    results = realistic(images=12, methods=("rollout", "legrad", "gradcam"))
    found = summarize(results, ROWS, resamples=200)
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 200)
    for metric, method in (("mass", "legrad"), ("perturbation_positive", "other_class:gradcam"), ("saco", "random")):
        values = []
        for draw in draws:
            parts = []
            for image, times in zip(results.images, draw, strict=True):
                for item in image.measured:
                    if (item.method, item.metric) == (method, metric):
                        parts += [item.parts] * times
            values.append(ROWS[metric].value(np.mean(parts, axis=0)))
        score = found.scores["all", metric, method]
        np.testing.assert_allclose((score.low, score.high), np.quantile(values, [0.025, 0.975]), rtol=1e-12)


def test_intervals_hold_the_true_value_as_often_as_they_say():
    draw = np.random.default_rng(1)
    held = []
    for seed in range(60):
        values = {str(number): draw.normal(5, 2, 60) for number in range(5)}
        found = summarize(_one_metric(values, seed), SCORE, resamples=400)
        scores = [found.scores["all", "score", name] for name in values]
        held += [score.low <= 5 <= score.high for score in scores]
    assert len(held) == 300 and 0.90 <= np.mean(held) <= 0.98


def test_comparisons_are_of_pairs():
    """Images differ far more than methods do: only pairs on the same images show which one is better."""
    draw = np.random.default_rng(2)
    images = draw.normal(0, 10, 50)
    found = summarize(_one_metric({"a": images, "b": images + 0.5 + draw.normal(0, 0.5, 50)}), SCORE)
    a, b = (found.scores["all", "score", name] for name in "ab")
    assert a.low < b.value < a.high and b.low < a.value < b.high
    forth, back = found.comparisons["all", "score", "b", "a"], found.comparisons["all", "score", "a", "b"]
    assert (forth.verdict, back.verdict) == ("better", "worse")
    assert forth.difference == pytest.approx(b.value - a.value) and 0 < forth.low < forth.high < 1
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert found.is_top("all", "score", "b") and not found.is_top("all", "score", "a")


def test_what_is_compared_and_what_cannot_be_told():
    draw = np.random.default_rng(3)
    noise = draw.normal(0, 1, 40)
    names = ("a", "b", "random", "constant", "gaussian", "other_class:a")
    values = dict.fromkeys(names, noise) | {"b": noise + draw.normal(0, 3, 40), "gaussian": noise + 1}
    found = summarize(_one_metric(values), SCORE)
    assert found.methods == ("a", "b") and found.yardsticks == names[2:]
    assert [pair[2:] for pair in found.comparisons if pair[0] == "all" and pair[2] == "a"] == [
        ("a", name) for name in names[1:]
    ]
    assert [pair[3] for pair in found.comparisons if pair[0] == "all" and pair[2] == "b"] == [
        "a",
        "random",
        "constant",
        "gaussian",
    ]
    told = dict.fromkeys(("random", "constant"), "cannot be told")
    assert found.verdicts("all", "score", "a") == {**told, "gaussian": "worse", "other_class:": "cannot be told"}
    lower = summarize(_one_metric(values), {"score": row("score", "lower")})
    assert lower.verdicts("all", "score", "a")["gaussian"] == "better"
    neither = summarize(_one_metric(values), {"score": row("score", "neither")})
    assert not neither.comparisons and {score.rank for score in neither.scores.values()} == {None}


def test_the_same_maps_are_not_told_apart_by_rounding():
    values = np.random.default_rng(4).normal(0.3, 0.1, 33)
    many = {f"m{number}": values for number in range(9)} | {"random": values * (1 + 4e-16)}
    verdicts = {item.verdict for item in summarize(_one_metric(many), SCORE).comparisons.values()}
    assert verdicts == {"cannot be told"}


def test_pairs_are_compared_on_the_maps_that_both_have():
    images = [{"measured": [(0, "a", "score", (value,)), (1, "a", "score", (100.0,))]} for value in (1.0, 2.0, 3.0)]
    for image, value in zip(images[:2], (0.0, 0.5), strict=True):
        image["measured"].append((0, "b", "score", (value,)))
    found = summarize(results_of(images), SCORE)
    pair = found.comparisons["all", "score", "a", "b"]
    assert (pair.difference, pair.images, pair.verdict) == (1.25, 2, "better")
    assert (found.scores["all", "score", "a"].maps, found.scores["all", "score", "b"].maps) == (6, 2)


def test_a_value_that_is_no_number_has_no_rank_and_no_comparison():
    ratio = {"score": row("score", "higher", combine=lambda means: means[..., 0] / means[..., 1])}
    image = {"measured": [(0, "a", "score", (1.0, 2.0)), (0, "random", "score", (0.0, 0.0)), (0, "b", "score", (0, 0))]}
    found = summarize(results_of([image] * 4), ratio)
    assert np.isnan(found.scores["all", "score", "b"].value) and found.scores["all", "score", "b"].rank is None
    assert found.scores["all", "score", "a"].rank == 1 and not found.comparisons


def test_without_labels_there_are_no_rightly_classified_images():
    image = {"measured": [(0, "a", "score", (1.0,))], "right": None}
    assert summarize(results_of([image]), SCORE).images == {"all": 1}
    assert summarize(results_of([]), SCORE).scores == {}


def test_all_wrongly_classified():
    image = {"measured": [(0, "a", "score", (1.0,))], "right": False}
    found = summarize(results_of([image]), SCORE)
    assert found.images == {"all": 1, "right": 0} and ("right", "score", "a") not in found.scores


def test_the_same_results_give_the_same_statistics():
    results = only(realistic(images=20), "mass", "saco")
    found = summarize(results, ROWS)
    assert len(found.scores) == 2 * 2 * (21 + 3 + 18) and found == summarize(results, ROWS)
