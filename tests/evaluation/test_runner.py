"""An evaluation from samples to results: against a slow loop, in processes, interrupted, and on bad data."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation import METRICS, Boxes, Sample, evaluate
from onnxplain.evaluation.metrics.metric import Case, Judged, Metric
from onnxplain.evaluation.runner import evaluate as run
from onnxplain.evaluation.samples import to_input
from onnxplain.evaluation.yardsticks import MAPS
from onnxplain.runtime import Explainer, preprocess
from tests.helpers import tiny_artifact

METHODS = ["transformer_attribution", "rollout", "gradient"]
REMOVING = ["perturbation_positive", "perturbation_negative"]
COUNT = 5


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "tiny.onnx"
    tiny_artifact.build(path)
    return Explainer(path, "cpu", threads=1)


def samples(count=COUNT):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 20, 30, 3), dtype=np.uint8)
    regions = {0: Boxes(((3, 2, 20, 12),)), 4: Boxes(((0, 0, 5, 5),))}
    return [Sample(f"image-{place}", image, (0, 4), regions) for place, image in enumerate(images)]


def values(results):
    return {(image.name, *each[:3]): each.parts for image in results.images for each in image.measured}


def test_it_measures_what_a_loop_over_everything_measures(explainer):
    results = evaluate(explainer, samples(), METHODS, REMOVING, seed=3)
    found, expected = values(results), {}
    for sample, image in zip(samples(), results.images, strict=True):
        pixels, _ = preprocess(Image.fromarray(sample.image), explainer.metadata.preprocessing)
        logits = explainer.artifact.run(pixels[None], [0], ())["logits"][0]
        assert image.predicted == logits.argmax() and image.right == (image.predicted in (0, 4))
        maps = explainer.explain_all(sample.image, [0, 4], methods=METHODS)
        case = seen_case(explainer, sample, 3)
        for target, other in ((0, 1), (1, 0)):
            rows = {name: items[target].input_heatmap for name, items in maps.items()}
            rows |= {f"other_class:{name}": maps[name][other].input_heatmap for name in METHODS if name != "rollout"}
            for row, heatmap in rows.items():
                for metric in map(METRICS.get, REMOVING):
                    index = (0, 4)[target]
                    answers = [
                        explainer.artifact.run(copy[None], [0], ())["logits"][0]
                        for copy in metric.copies(case, heatmap, "black")
                    ]
                    judged = Judged(case, heatmap, index, row, np.stack(answers), None, None, None, None)
                    expected[sample.name, index, row, metric.name] = tuple(metric.function(judged))
    yardsticks = {key for key in found if key[2] in MAPS}
    assert len(yardsticks) == COUNT * 2 * len(MAPS) * len(REMOVING)
    assert {key: parts for key, parts in found.items() if key not in yardsticks} == expected


def seen_case(explainer, sample, seed):
    """The case that metrics are given of a sample."""
    cases = []

    def keep(judged):
        cases.append(judged.case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METRICS, "keep", Metric("keep", keep, "neither", "", ""))
        evaluate(explainer, [sample], ["rollout"], ["keep"], seed=seed)
    return cases[0]


def test_processes_find_the_same(explainer):
    alone = evaluate(explainer, samples(), METHODS, REMOVING)
    assert values(evaluate(explainer, samples(), METHODS, REMOVING, jobs=2)) == values(alone)


def test_metrics_are_given_masks_and_maps_of_other_classes_and_inputs(explainer, monkeypatch):
    (sample,) = samples(1)
    seen = {}

    def look(judged):
        (again,) = judged.maps("same", lambda: [judged.case.pixels])
        (own,) = judged.own_maps([judged.case.pixels])
        seen[judged.target, judged.method] = judged
        return [float(np.array_equal(again, judged.heatmap)), float(np.array_equal(own, judged.heatmap))]

    row = Metric("look", look, "higher", "", "", needs=frozenset({"mask", "maps"}))
    monkeypatch.setitem(METRICS, "look", row)
    results = evaluate(explainer, [sample], METHODS, ["look"])
    assert all(each.parts == (1.0, 1.0) for each in results.images[0].measured)
    of_other = {f"other_class:{name}" for name in METHODS if name != "rollout"}
    assert {name for _, name in seen} == {*METHODS, *of_other}  # yardsticks do not change with the input
    placement = explainer.explain(sample.image).placement
    for target in (0, 4):
        expected = to_input(sample.regions[target].mask((20, 30)), placement)
        assert expected.any() and not expected.all()
        np.testing.assert_array_equal(seen[target, "gradient"].mask, expected)
    np.testing.assert_array_equal(seen[0, "other_class:gradient"].heatmap, seen[4, "gradient"].heatmap)
    np.testing.assert_array_equal(seen[0, "gradient"].other, seen[4, "gradient"].heatmap)
    np.testing.assert_array_equal(seen[0, "other_class:gradient"].other, seen[0, "gradient"].heatmap)
    assert seen[0, "rollout"].other is None


def test_of_an_image_of_one_class_the_other_is_the_most_probable_other_one(explainer, monkeypatch):
    (sample,) = samples(1)
    logits = explainer.tensors(sample.image, passes=())["logits"][0]
    for label in np.argsort(-logits)[:2]:
        seen = {}
        row = Metric("look", lambda judged, seen=seen: seen.update({judged.method: judged}), "higher", "", "")
        monkeypatch.setitem(METRICS, "look", row)
        evaluate(explainer, [replace(sample, labels=(int(label),))], ["gradient"], ["look"])
        other = next(index for index in np.argsort(-logits) if index != label)
        expected = explainer.explain(sample.image, int(other), "gradient").input_heatmap
        np.testing.assert_array_equal(seen["gradient"].other, expected)


def test_the_predicted_class_can_be_the_target_and_needs_no_label(explainer):
    unknown = [replace(sample, labels=(), regions={}) for sample in samples()]
    results = evaluate(explainer, unknown, ["rollout"], REMOVING, target="predicted")
    assert all({each.target for each in image.measured} == {image.predicted} for image in results.images)
    assert all(image.right is None for image in results.images)
    with pytest.raises(OnnxplainError, match="none of the 5 images could be evaluated; image-0: the class that it"):
        evaluate(explainer, unknown, ["rollout"], REMOVING)


class Counting:
    """An artifact that counts the inputs that it is run on."""

    def __init__(self, artifact):
        self.artifact, self.metadata, self.device, self.count = artifact, artifact.metadata, artifact.device, 0

    def run(self, images, targets, outputs):
        self.count += len(images)
        return self.artifact.run(images, targets, outputs)


class StoppedError(Exception):
    """Raised as if by the user."""


def counted_run(explainer, folder, stop_after=None):
    """Evaluate, and count; stop after so many images."""
    counting = Counting(explainer.artifact)
    same = Explainer.over(counting)
    same._arguments = explainer._arguments  # of the same file

    def progress(done, total, runs):
        if done == stop_after:
            raise StoppedError

    try:
        return run(same, samples(), METHODS, REMOVING, output=folder, progress=progress), counting.count
    except StoppedError:
        return None, counting.count


def test_an_interrupted_evaluation_goes_on_and_computes_nothing_twice(explainer, tmp_path):
    whole, all_runs = counted_run(explainer, tmp_path / "whole")
    interrupted, before = counted_run(explainer, tmp_path / "parts", stop_after=2)
    assert interrupted is None and before < all_runs
    with (tmp_path / "parts" / "results.jsonl").open("a") as file:
        file.write('{"name": "image-2", "measured": [[0, "rol')  # as killed in the middle of a line
    resumed, after = counted_run(explainer, tmp_path / "parts")
    assert values(resumed) == values(whole) and before + after == all_runs
    assert [image.name for image in resumed.images] == [sample.name for sample in samples()]
    again, none = counted_run(explainer, tmp_path / "parts")
    assert values(again) == values(whole) and none == 0
    lines = (tmp_path / "parts" / "results.jsonl").read_text().splitlines()
    assert len([line for line in map(json.loads, lines) if "name" in line]) == COUNT


def test_results_of_another_evaluation_are_not_continued(explainer, tmp_path):
    evaluate(explainer, samples(1), ["rollout"], REMOVING, output=tmp_path)
    evaluate(explainer, samples(2), ["rollout"], REMOVING, output=tmp_path)  # more images are
    with pytest.raises(OnnxplainError, match="of another evaluation, with other methods and seed; give another folder"):
        evaluate(explainer, samples(2), ["gradient"], REMOVING, output=tmp_path, seed=1)
    (tmp_path / "results.jsonl").write_text("{}\n")
    with pytest.raises(OnnxplainError, match=r"results.jsonl does not hold results of an evaluation"):
        evaluate(explainer, samples(2), ["gradient"], REMOVING, output=tmp_path)


def test_results_of_a_model_in_memory_are_not_continued(explainer, tmp_path):
    live = Explainer.over(explainer.artifact)
    evaluate(live, samples(1), ["rollout"], REMOVING, output=tmp_path)
    with pytest.raises(OnnxplainError, match=r"whose model is in memory, .*; give another folder"):
        evaluate(live, samples(1), ["rollout"], REMOVING, output=tmp_path)


def test_an_image_that_cannot_be_read_is_an_error_among_the_results(explainer, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    data = [*samples(), Sample("broken.png", broken, (0,))]
    results = evaluate(explainer, data, ["rollout"], REMOVING, output=tmp_path)
    assert len(results.images) == COUNT and list(results.errors) == ["broken.png"]
    assert "\n" not in results.errors["broken.png"]
    Image.new("RGB", (20, 20)).save(broken)  # mended: it is tried again
    results = evaluate(explainer, data, ["rollout"], REMOVING, output=tmp_path)
    assert len(results.images) == COUNT + 1 and not results.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["rolout"]}, "there is no method 'rolout'.*did you mean 'rollout'"),
        ({"metrics": ["perturbation"]}, "there is no metric 'perturbation'.*did you mean 'perturbation_positive'"),
        ({"metrics": []}, r"`metrics` must be a list of names, or None for the default ones, got \[\]"),
        ({"target": "wrong"}, "there is no target 'wrong'; there are: true, predicted"),
        ({"baseline": "grey"}, "there is no baseline 'grey'; there are: black, mean"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1"),
        ({"jobs": 0}, "`jobs` must be a whole number of at least 1, got 0"),
        ({"samples": []}, "there are no images to evaluate on"),
        ({"samples": samples(1) * 2}, "two samples are called 'image-0'; give each a name of its own"),
    ],
)
def test_an_argument_that_is_not_valid_is_refused(explainer, arguments, message):
    given = {"samples": samples(1), "methods": ["rollout"], **arguments}
    with pytest.raises(OnnxplainError, match=message):
        evaluate(explainer, **given)


def test_random_numbers_differ_between_images_and_not_between_methods(explainer, monkeypatch):
    drawn = {}

    def draw(judged):
        drawn.setdefault(judged.case.seed, set()).add(judged.case.random(5).random())

    monkeypatch.setitem(METRICS, "draw", Metric("draw", draw, "neither", "", ""))
    evaluate(explainer, samples(3), METHODS, ["draw"])
    assert len(drawn) == 3 and all(len(numbers) == 1 for numbers in drawn.values())


def test_yardsticks_know_nothing_of_the_image(explainer):
    first, second = (seen_case(explainer, sample, 0) for sample in samples(2))
    assert isinstance(first, Case)
    assert not np.array_equal(MAPS["random"](first), MAPS["random"](second))
    gaussian = MAPS["gaussian"](first)
    assert np.ptp(MAPS["constant"](first)) == 0 and gaussian.shape == (16, 24)
    np.testing.assert_allclose(gaussian, gaussian[::-1, ::-1])
    y, x = np.unravel_index(gaussian.argmax(), gaussian.shape)
    assert (y in (7, 8)) and (x in (11, 12))
    np.testing.assert_allclose(
        gaussian[0, 12] / gaussian[8, 12], np.exp(-0.5 * (7.5 / 4) ** 2 + 0.5 * (0.5 / 4) ** 2), rtol=1e-5
    )


def test_a_file_whose_name_is_no_text_is_evaluated(explainer, tmp_path):
    (sample,) = samples(1)
    (again,) = evaluate(
        explainer, [replace(sample, name="\udce9.png")], ["rollout"], REMOVING, output=tmp_path
    ).images  # as a file's name in Latin-1 is read
    assert again.name == "\udce9.png" and again.measured


def test_results_of_another_version_are_not_continued(explainer, tmp_path, monkeypatch):
    evaluate(explainer, samples(1), ["rollout"], REMOVING, output=tmp_path)
    monkeypatch.setattr("onnxplain.evaluation.runner.version", lambda name: "999")
    with pytest.raises(OnnxplainError, match="of another evaluation, with other versions; give another folder"):
        evaluate(explainer, samples(1), ["rollout"], REMOVING, output=tmp_path)


def test_a_model_in_memory_does_not_go_to_other_processes(explainer, tmp_path):
    live = Explainer.over(explainer.artifact)
    with pytest.raises(OnnxplainError, match="a model in memory cannot go to other processes: use `jobs` 1, or export"):
        evaluate(live, samples(1), ["rollout"], REMOVING, jobs=2, output=tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_metric_of_this_process_alone_does_not_go_to_others(explainer, monkeypatch):
    monkeypatch.setitem(METRICS, "own", Metric("own", lambda judged: [1.0], "neither", "", ""))
    assert len(evaluate(explainer, samples(2), ["rollout"], ["own"]).images) == 2
    with pytest.raises(OnnxplainError, match="the metric 'own' was added to METRICS in one process only; use `jobs` 1"):
        evaluate(explainer, samples(2), ["rollout"], ["own"], jobs=2)


@pytest.mark.parametrize("label", [99, -1])
def test_a_label_that_is_no_class_is_an_error_of_the_image(explainer, label):
    data = [*samples(1), Sample("other", Image.new("RGB", (9, 9)), (label,))]
    results = evaluate(explainer, data, ["gradient"], ["sparseness"])
    last = len(explainer.metadata.labels) - 1
    assert results.errors == {"other": f"its labels must be classes of the artifact, 0 to {last}, got {label}"}


def test_copies_that_no_map_changes_are_run_once_for_all_maps(explainer):
    (sample,) = samples(1)
    results = evaluate(explainer, [sample], METHODS, ["infidelity"], seed=3)
    metric, case, maps = METRICS["infidelity"], seen_case(explainer, sample, 3), {}
    for name, items in explainer.explain_all(sample.image, [0, 4], methods=METHODS).items():
        maps |= {(0, name): items[0].input_heatmap, (4, name): items[1].input_heatmap}
    copies = [*metric.copies(case, maps[0, "rollout"], "black")]
    logits = np.concatenate([explainer.artifact.run(copy[None], [0], ())["logits"] for copy in copies])
    assert results.images[0].runs == 1 + len(copies)
    found = values(results)
    for (target, name), heatmap in maps.items():
        judged = Judged(case, heatmap, target, name, logits, None, None, None, None)
        expected = pytest.approx(tuple(metric.function(judged)), rel=1e-5)
        assert found[sample.name, target, name, "infidelity"] == expected
